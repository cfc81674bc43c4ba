"""Every failure a user can cause or meet, with its exit code.

An error carries one line that names what is wrong (the file, collection or id) and a remedy. The
command line prints ``error: MESSAGE. REMEDY`` and exits with ``exit_code``; a Python caller catches
:class:`VecmigrateError` or one of its kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import partial
from typing import ClassVar

from pydantic import ValidationError

_LONGEST_REASON = 300


class ExitCode(IntEnum):
    """Exit codes of the command line; ``docs/reference/exit-codes.md`` is the table for users."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    TARGET_EXISTS = 4
    MISMATCH = 5
    VERIFICATION = 6
    UNREACHABLE = 7
    MISSING_DEPENDENCY = 8
    WRITE_FAILED = 9
    NO_GO = 10
    TOO_SMALL = 11
    LOCKED = 12
    NOT_VERIFIED = 13
    UNSETTLED = 14
    INTERRUPTED = 130
    TERMINATED = 143


class VecmigrateError(Exception):
    """Base of all errors that are the user's to mend; never raised itself.

    Parameters
    ----------
    message
        One line, no full stop at its end, naming the file, collection or id at fault.
    remedy
        One sentence that says what to do.
    """

    exit_code: ClassVar[ExitCode]

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        # So that an error comes whole from another process; its remedy is not among ``args``.
        return partial(type(self), remedy=self.remedy), (self.message,)


class UsageError(VecmigrateError):
    """A URI, option or argument that cannot be understood."""

    exit_code = ExitCode.USAGE


class VectorNotFoundError(UsageError):
    """A vector that a collection does not have, or of several vectors none that is named."""


class InputError(VecmigrateError):
    """Data that cannot be used: unreadable, empty, malformed, or without the text needed."""

    exit_code = ExitCode.BAD_INPUT


class BadVectorError(InputError):
    """A vector with NaN or infinite components, or of zero length."""


class TextRefusedError(InputError):
    """A text that an encoder does not take, while it takes others."""


class MissingIdsError(InputError):
    """Ids that a source was asked for and does not hold.

    Parameters
    ----------
    missing
        All of these ids; empty if they are not known.
    """

    def __init__(self, message: str, *, remedy: str, missing: Iterable[int | str] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.missing = frozenset(missing)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return partial(type(self), remedy=self.remedy, missing=self.missing), (self.message,)


class TargetExistsError(VecmigrateError):
    """The target is already there; nothing is ever replaced without being asked."""

    exit_code = ExitCode.TARGET_EXISTS


class MismatchError(VecmigrateError):
    """Two things that do not belong together: dimensions, encoders, translator, settings."""

    exit_code = ExitCode.MISMATCH


class LockedError(VecmigrateError):
    """Another run is doing the same."""

    exit_code = ExitCode.LOCKED


class TerminatedError(VecmigrateError):
    """The process was asked to end, and has saved how far it came."""

    exit_code = ExitCode.TERMINATED


class VerificationError(VecmigrateError):
    """What was written is not what was read."""

    exit_code = ExitCode.VERIFICATION


class UnreachableError(VecmigrateError):
    """A server that does not answer, or keeps answering that it cannot now."""

    exit_code = ExitCode.UNREACHABLE


class MissingDependencyError(VecmigrateError):
    """An optional package that the chosen feature needs is not installed."""

    exit_code = ExitCode.MISSING_DEPENDENCY


class WriteError(VecmigrateError):
    """The target's disk or server refused a write; nothing was published."""

    exit_code = ExitCode.WRITE_FAILED


class RefusedError(WriteError):
    """The store refuses points for what they hold; the others of the batch are not at fault."""


class UnsettledError(VecmigrateError):
    """A source that changes as fast as its changes can be brought; the same command continues."""

    exit_code = ExitCode.UNSETTLED


class NotVerifiedError(VecmigrateError):
    """A collection that readers are to depend on without a passing, fresh verification."""

    exit_code = ExitCode.NOT_VERIFIED


def reason_of(cause: BaseException | str) -> str:
    """Shorten what another library or server said to one line without its full stop.

    Of what pydantic says, the first fault is named, and where it is.
    """
    if isinstance(cause, ValidationError):
        fault = cause.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        cause = f"{place and f'{place}: '}{fault['msg'].removeprefix('Value error, ')}"
    said = " ".join(str(cause).split()) or type(cause).__name__
    if len(said) > _LONGEST_REASON:
        said = said[:_LONGEST_REASON] + "..."
    return said.rstrip(".") if not said.endswith("...") else said
