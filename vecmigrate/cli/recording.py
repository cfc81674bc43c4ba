"""Tells those who watch from outside of a run: the state file, the log, the metrics file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vecmigrate.cli.ending import ending_of
from vecmigrate.cli.logs import LIBRARY, RUNS, handling, report_error, run_attributes
from vecmigrate.cli.run_metrics import RunMetrics
from vecmigrate.cli.termination import termination_raises
from vecmigrate.connector.addresses import canonical_uri
from vecmigrate.errors import ExitCode, VecmigrateError
from vecmigrate.state import open_state
from vecmigrate.state.runs import RunLog
from vecmigrate.telemetry.events import CHECKPOINT, POINTS, log_event
from vecmigrate.telemetry.redaction import redacted


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
        "vecmigrate.connector.source": source,
        "vecmigrate.target": target,
    }
    ending = ending_of(None)
    metrics.begin()
    with run_attributes(attributes), handling(LIBRARY, _Checkpoints(counts, metrics)):
        log_event(RUNS, logging.INFO, "vecmigrate.run.started", f"{command} started", {})
        try:
            with termination_raises():
                yield counts
        except BaseException as error:
            ending = ending_of(error)
            if ending.code != ExitCode.OK:
                report_error(error, ending.line, ending.code)
            raise
        finally:
            # A history that has a gap is no reason to call what was done a failure.
            with suppress(VecmigrateError), closing(open_state(state)) as connection:
                RunLog(connection).end(
                    number,
                    ending.code,
                    message=ending.message and redacted(ending.message),
                    remedy=ending.remedy and redacted(ending.remedy),
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


def spelling_of(uri: str) -> str | None:
    """Return a collection's one spelling, None for what is no URI: others refuse that."""
    try:
        return canonical_uri(uri)
    except VecmigrateError:
        return None


class _Checkpoints(logging.Handler):
    """Counts what is durable, so that it is known of a run that goes no further."""

    def __init__(self, counts: dict[str, int], metrics: RunMetrics) -> None:
        super().__init__(logging.INFO)
        self._counts = counts
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == CHECKPOINT:
            self._counts["written"] = int(record.__dict__["attributes"][POINTS])
            self._metrics.reached(self._counts["written"])
