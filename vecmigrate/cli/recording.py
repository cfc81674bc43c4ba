"""Tells those who watch from outside of a run: the state file, the log, the metrics file."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from vecmigrate.cli.logs import LIBRARY, RUNS, handling, report_error, run_attributes
from vecmigrate.cli.output import Ending, Output, ending_of
from vecmigrate.connector.addresses import canonical_uri
from vecmigrate.errors import ExitCode, TerminatedError, VecmigrateError
from vecmigrate.runtime.waiting import unwanted_when
from vecmigrate.state import open_state, state_path
from vecmigrate.state.runs import RunLog
from vecmigrate.telemetry.events import CHECKPOINT, POINTS, log_event
from vecmigrate.telemetry.metrics_file import (
    DURATION,
    IN_PROGRESS,
    LAST_END,
    LAST_EXIT_CODE,
    LAST_START,
    LAST_SUCCESS,
    LAST_UPDATE,
    POINTS_TOTAL,
    MetricsFile,
    MetricsFileWarning,
)
from vecmigrate.telemetry.redaction import redacted

if TYPE_CHECKING:
    from vecmigrate.jobs.steps.base import RunHooks


@contextmanager
def recorded(
    given: Path | None,
    command: str,
    source: str,
    target: str,
    *,
    rehearsal: bool = False,
    history: bool = True,
    idle: bool = True,
) -> Iterator[dict[str, int]]:
    """Note that a command begins, and with which exit code it ends; nothing of a rehearsal.

    Yields the counts to note at its end: points, by what was done with them.

    Parameters
    ----------
    given
        The state file, as :func:`state_path` takes it.
    history
        False to tell the log and the metrics file alone, as of a command that has no state file.
    idle
        False to forget a run that ended well and has nothing to count, as of one of many.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    if rehearsal:
        yield {}
        return
    state = state_path(given)
    source, target = redacted(source), redacted(target)
    number = None
    if history:
        with closing(open_state(state)) as connection:
            number = RunLog(connection).begin(command, source, target, spelling_of(target))
    begun = time.perf_counter()
    counts: dict[str, int] = {}
    metrics = RunMetrics(command, source, target)
    attributes: dict[str, object] = {
        **({} if number is None else {"vecmigrate.run_id": number}),
        "vecmigrate.command": command,
        "vecmigrate.source": source,
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
            if number is not None and (idle or ending.code != ExitCode.OK or any(counts.values())):
                _end(state, number, ending, counts)
            elif number is not None:
                _forget(state, number)
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


def run_hooks(out: Output, state: Path | None, *, rehearsal: bool = False) -> RunHooks:
    """Return hooks that print what a run tells, record it, and let SIGTERM end it."""
    from vecmigrate.jobs.steps.base import RunHooks

    return RunHooks(
        announce=out.say,
        stage=out.progress,
        recorded=lambda *run: recorded(state, *run, rehearsal=rehearsal),
        stoppable=termination_asked,
    )


def _end(state: Path, number: int, ending: Ending, counts: Mapping[str, int]) -> None:
    # A history that has a gap is no reason to call what was done a failure.
    with suppress(VecmigrateError), closing(open_state(state)) as connection:
        RunLog(connection).end(
            number,
            ending.code,
            message=ending.message and redacted(ending.message),
            remedy=ending.remedy and redacted(ending.remedy),
            counts=counts,
        )


def _forget(state: Path, number: int) -> None:
    with suppress(VecmigrateError), closing(open_state(state)) as connection:
        RunLog(connection).forget(number)


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


_asked: ContextVar[MetricsFile | None] = ContextVar("metrics_file", default=None)


@contextmanager
def metrics_to(path: Path | None) -> Iterator[None]:
    """Have runs write their figures to this file meanwhile; to none if it is None.

    Raises
    ------
    InputError, WriteError
        If the file holds anything else, or its folder is not there.
    """
    file = None if path is None else MetricsFile(path)
    if file is not None:
        file.read()
    before = _asked.set(file)
    try:
        yield
    finally:
        _asked.reset(before)


class RunMetrics:
    """One run's figures; does nothing if no file was asked for."""

    def __init__(self, command: str, source: str, target: str) -> None:
        self._labels = (command, source, target)
        self._begun = time.time()
        self._file = _asked.get()

    def begin(self) -> None:
        """Note that the run begins."""
        self._note({IN_PROGRESS: 1, LAST_START: self._begun}, anew=True)

    def reached(self, points: int) -> None:
        """Note how many points are durable."""
        self._note({f"{POINTS_TOTAL}written": points})

    def end(self, exit_code: int, counts: Mapping[str, int]) -> None:
        """Note that the run ends."""
        now = time.time()
        figures: dict[str, float] = {
            f"{POINTS_TOTAL}{name}": count for name, count in counts.items()
        }
        figures |= {
            IN_PROGRESS: 0,
            LAST_END: now,
            LAST_EXIT_CODE: exit_code,
            DURATION: now - self._begun,
        }
        if exit_code == 0:
            figures[LAST_SUCCESS] = now
        self._note(figures)

    def _note(self, figures: Mapping[str, float], *, anew: bool = False) -> None:
        if self._file is None:
            return
        try:
            self._file.update(self._labels, {**figures, LAST_UPDATE: time.time()}, anew=anew)
        except VecmigrateError as error:
            # What is done is no failure because nobody could be told of it.
            warnings.warn(str(error), MetricsFileWarning, stacklevel=2)


@contextmanager
def termination_asked() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has come, which ends waiting for a server."""
    asked = threading.Event()
    with _handled_by(lambda *_: asked.set(), signal.SIGTERM), unwanted_when(asked.is_set):
        yield asked.is_set


class EndAsked:
    """Whether a process that goes on and on is asked to end, by SIGTERM or Ctrl-C.

    What it is at is finished first; a second Ctrl-C does not wait for that.

    Attributes
    ----------
    interrupted
        True if it was Ctrl-C.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._asked = False

    @contextmanager
    def heeded(self) -> Iterator[Callable[[], bool]]:
        """Take note of both meanwhile; yields a function that tells whether one has come."""
        with (
            _handled_by(self._terminate, signal.SIGTERM),
            _handled_by(self._interrupt, signal.SIGINT),
            unwanted_when(self.is_asked),
        ):
            yield self.is_asked

    def is_asked(self) -> bool:
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait for so many seconds, or until the end is asked for; tell whether it is."""
        until = time.monotonic() + seconds
        while not self._asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return self._asked

    def _terminate(self, *_: object) -> None:
        self._asked = True

    def _interrupt(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = self.interrupted = True


_SLICE = 0.2
"""Seconds after which a waiting process looks whether it is asked to end."""


@contextmanager
def termination_raises() -> Iterator[None]:
    """Have SIGTERM stop what does not ask for it, as Ctrl-C does.

    Raises
    ------
    TerminatedError
        If it has come.
    """

    def stop(*_: object) -> None:
        raise TerminatedError("stopped by SIGTERM", remedy="Run the same command again.")

    with _handled_by(stop, signal.SIGTERM):
        yield


@contextmanager
def _handled_by(handler: Callable[..., None], number: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; elsewhere signals are somebody else's.
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
