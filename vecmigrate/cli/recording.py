"""Notes in the state file how a command ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vecmigrate.cli.output import DISK_FULL
from vecmigrate.errors import ExitCode, VecmigrateError, WriteError
from vecmigrate.state import open_state
from vecmigrate.state.runs import RunLog


@contextmanager
def recorded(state: Path, command: str, source: str, target: str) -> Iterator[dict[str, int]]:
    """Note that a command begins, and with which exit code it ends.

    Yields the counts to note at its end.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    with closing(open_state(state)) as connection:
        number = RunLog(connection).begin(command, source, target)
    counts: dict[str, int] = {}
    code, message = ExitCode.OK, None
    try:
        yield counts
    except BaseException as error:
        code, message = _told(error)
        raise
    finally:
        # A history that has a gap is no reason to call what was done a failure.
        with suppress(VecmigrateError), closing(open_state(state)) as connection:
            RunLog(connection).end(number, code, message=message, counts=counts)


def _told(error: BaseException) -> tuple[ExitCode, str]:
    if isinstance(error, VecmigrateError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, "interrupted"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return WriteError.exit_code, str(error)
    return ExitCode.INTERNAL, f"{type(error).__name__}: {error}"
