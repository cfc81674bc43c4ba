"""Keeps a run below a rate, for stores that serve readers at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable

_SLICE = 0.2
"""Seconds slept at a time, so that a run that is asked to end does so soon."""


class Pace:
    """Lets so many points a second pass, on average; time lost elsewhere is not made up for.

    Parameters
    ----------
    rate
        Points a second; None for no bound.
    stop
        Asked while waiting; True ends the wait.
    """

    def __init__(self, rate: float | None, stop: Callable[[], bool] = lambda: False) -> None:
        self._rate = rate
        self._stop = stop
        self._due = time.monotonic()

    def batch_size(self, wanted: int) -> int:
        """Return ``wanted``, or fewer: a batch is to be no more than a second's points."""
        return wanted if self._rate is None else max(1, min(wanted, int(self._rate)))

    def passed(self, count: int) -> None:
        """Wait until points that come after these ``count`` may pass."""
        if self._rate is None:
            return
        self._due = max(self._due, time.monotonic() - count / self._rate) + count / self._rate
        while (left := self._due - time.monotonic()) > 0 and not self._stop():
            time.sleep(min(left, _SLICE))
