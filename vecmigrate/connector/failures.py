"""What a store or the disk raises, told as an error of vecmigrate's: one line, and a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from vecmigrate.errors import VecmigrateError, WriteError

Failures = tuple[type[Exception], ...]


def reason_of(error: BaseException) -> str:
    """Return what an exception says, on one line without a full stop."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@contextmanager
def told_as(
    kind: type[VecmigrateError],
    message: str,
    remedy: str,
    failures: Failures,
    reason: Callable[[BaseException], str] = reason_of,
) -> Iterator[None]:
    """Raise ``failures`` as an error of ``kind``: the message, a colon, and the reason."""
    try:
        yield
    except VecmigrateError:
        raise
    except failures as error:
        raise kind(f"{message}: {reason(error)}", remedy=remedy) from error


def writing(
    what: object, failures: Failures = (), reason: Callable[[BaseException], str] = reason_of
) -> AbstractContextManager[None]:
    """Raise what the disk refuses, and ``failures``, as :class:`WriteError` naming ``what``."""
    return told_as(
        WriteError,
        f"{what} cannot be written",
        "Run it again after you free disk space or mend the permissions.",
        (OSError, *failures),
        reason,
    )
