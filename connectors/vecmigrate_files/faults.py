"""What Arrow, NumPy and the disk refuse, told as ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from vecmigrate.connector import InputError, VecmigrateError, WriteError


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Raise what cannot be read as :class:`InputError`, naming ``what``, a file."""
    try:
        yield
    except VecmigrateError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{what} cannot be read: {_reason(error)}",
            remedy="Check that the file is whole, of the format that the URI says, and readable.",
        ) from error


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Raise what the disk refuses as :class:`WriteError`, naming ``what``, the target."""
    try:
        yield
    except VecmigrateError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise WriteError(
            f"{what} cannot be written: {_reason(error)}",
            remedy="Free disk space or mend the permissions, and run again.",
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
