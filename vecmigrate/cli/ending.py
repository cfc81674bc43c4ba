"""How a command ended: its exit code, and what is said of it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import typer

from vecmigrate.errors import ExitCode, VecmigrateError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Ending:
    """A command's end.

    Attributes
    ----------
    message, remedy
        Of its error, without a full stop and with one; None where there is none.
    """

    code: int
    message: str | None = None
    remedy: str | None = None

    @property
    def line(self) -> str:
        """The error in one line."""
        return ". ".join(filter(None, (self.message, self.remedy)))


def ending_of(error: BaseException | None) -> Ending:
    """Return how a command ends that is left by this exception, or by none."""
    if isinstance(error, typer.Exit):
        return ending_of(error.__cause__) if error.__cause__ else Ending(error.exit_code)
    if error is None:
        return Ending(ExitCode.OK)
    if isinstance(error, VecmigrateError):
        return Ending(error.exit_code, error.message, error.remedy)
    if isinstance(error, KeyboardInterrupt):
        return Ending(ExitCode.INTERRUPTED, "interrupted", "Run the same command again.")
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return Ending(ExitCode.WRITE_FAILED, f"the disk is full ({error.filename})", "Make room.")
    return Ending(ExitCode.INTERNAL, f"{type(error).__name__}: {error}")
