"""Leaves a failing server alone, where retries alone would keep asking it."""

from __future__ import annotations

import threading

MOST = 20.0
"""Failures in a row, or nearly so, after which a server is left alone."""

REGAINED = 0.1
"""What a success gives back of one failure: a server may fail one request in ten for ever."""


class Circuit:
    """Counts failures down and successes up; once it is open, nothing is tried again.

    The rule is that of gRPC's retry throttling (proposal A6): a request's own retries bound how
    long one request takes, this bounds what a whole run may ask of a server that keeps failing.

    Attributes
    ----------
    failed, tried
        Requests so far, retries among them.
    """

    def __init__(self) -> None:
        self.failed = self.tried = 0
        self._left = MOST
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """True where the server is to be left alone."""
        return self._left <= 0

    def succeeded(self) -> None:
        """Take note of an answer."""
        with self._lock:
            self.tried += 1
            if not self.is_open:
                self._left = min(MOST, self._left + REGAINED)

    def failed_once(self) -> None:
        """Take note of a fault that may pass."""
        with self._lock:
            self.tried += 1
            self.failed += 1
            self._left -= 1

    def close(self) -> None:
        """Begin anew: the server is back after it was waited for."""
        with self._lock:
            self._left = MOST
