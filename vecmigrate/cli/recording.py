"""Tells those who watch from outside of a run: the state file, the log, the metrics file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import typer

from vecmigrate.cli.logs import RUNS, report_error, run_attributes
from vecmigrate.cli.output import DISK_FULL
from vecmigrate.cli.run_metrics import RunMetrics
from vecmigrate.errors import ExitCode, VecmigrateError, WriteError
from vecmigrate.events import log_event
from vecmigrate.redaction import redacted
from vecmigrate.state import open_state
from vecmigrate.state.jobs import spelled
from vecmigrate.state.runs import RunLog


@contextmanager
def recorded(state: Path, command: str, source: str, target: str) -> Iterator[dict[str, int]]:
    """Note that a command begins, and with which exit code it ends.

    Yields the counts to note at its end: points, by what was done with them.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    source, target = redacted(source), redacted(target)
    with closing(open_state(state)) as connection:
        number = RunLog(connection).begin(command, source, target, spelling_of(target))
    begun = time.perf_counter()
    counts: dict[str, int] = {}
    metrics = RunMetrics(command, source, target)
    attributes = {
        "vecmigrate.run_id": number,
        "vecmigrate.command": command,
        "vecmigrate.source": source,
        "vecmigrate.target": target,
    }
    ending = _Ending(ExitCode.OK)
    with run_attributes(attributes), metrics.following():
        log_event(RUNS, logging.INFO, "vecmigrate.run.started", f"{command} started", {})
        try:
            yield counts
        except BaseException as error:
            ending = _ending(error)
            if ending.code != ExitCode.OK:
                report_error(error, ending.line, ending.code)
            raise
        finally:
            # A history that has a gap is no reason to call what was done a failure.
            with suppress(VecmigrateError), closing(open_state(state)) as connection:
                RunLog(connection).end(
                    number,
                    ending.code,
                    message=ending.message,
                    remedy=ending.remedy,
                    counts=counts,
                )
            metrics.end(ending.code, counts)
            log_event(
                RUNS,
                logging.INFO if ending.code == ExitCode.OK else logging.ERROR,
                "vecmigrate.run.ended",
                f"{command} ended with exit code {int(ending.code)}",
                {
                    "exit.code": int(ending.code),
                    "vecmigrate.seconds": round(time.perf_counter() - begun, 3),
                    **{f"vecmigrate.points.{name}": count for name, count in counts.items()},
                },
            )


@dataclass(frozen=True, slots=True)
class _Ending:
    code: int
    message: str | None = None
    remedy: str | None = None

    @property
    def line(self) -> str:
        return ". ".join(filter(None, (self.message, self.remedy)))


def _ending(error: BaseException) -> _Ending:
    if isinstance(error, typer.Exit) and error.__cause__ is None:
        return _Ending(error.exit_code)
    if isinstance(error, typer.Exit):
        return _ending(error.__cause__ or error)
    if isinstance(error, VecmigrateError):
        return _Ending(error.exit_code, redacted(error.message), redacted(error.remedy))
    if isinstance(error, KeyboardInterrupt):
        return _Ending(ExitCode.INTERRUPTED, "interrupted", "Run the same command again.")
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return _Ending(WriteError.exit_code, redacted(str(error)), "Make room.")
    return _Ending(ExitCode.INTERNAL, redacted(f"{type(error).__name__}: {error}"))


def spelling_of(uri: str) -> str | None:
    """Return a collection's one spelling, None for what is no URI: others refuse that."""
    try:
        return spelled(uri)
    except VecmigrateError:
        return None
