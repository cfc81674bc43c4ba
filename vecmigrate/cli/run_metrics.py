"""Keeps the metrics file up to date while a recorded command runs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from vecmigrate.errors import VecmigrateError
from vecmigrate.telemetry.metrics_file import (
    DURATION,
    IN_PROGRESS,
    LAST_END,
    LAST_EXIT_CODE,
    LAST_START,
    LAST_SUCCESS,
    LAST_UPDATE,
    POINTS,
    MetricsFile,
    MetricsFileWarning,
)

_asked: ContextVar[MetricsFile | None] = ContextVar("metrics_file", default=None)


@contextmanager
def metrics_to(path: Path | None) -> Iterator[None]:
    """Have runs write their figures to this file meanwhile; to none where it is None.

    Raises
    ------
    InputError, WriteError
        Where the file holds anything else, or its folder is not there.
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
    """One run's figures; does nothing where no file was asked for."""

    def __init__(self, command: str, source: str, target: str) -> None:
        self._labels = (command, source, target)
        self._begun = time.time()
        self._file = _asked.get()

    def begin(self) -> None:
        """Note that the run begins."""
        self._note({IN_PROGRESS: 1, LAST_START: self._begun}, anew=True)

    def reached(self, points: int) -> None:
        """Note how many points are durable."""
        self._note({f"{POINTS}written": points})

    def end(self, exit_code: int, counts: Mapping[str, int]) -> None:
        """Note that the run ends."""
        now = time.time()
        figures: dict[str, float] = {f"{POINTS}{name}": count for name, count in counts.items()}
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
