"""Sends requests to a server again, as long as there is hope that it answers.

A fault that passes is tried again at once and by the circuit's rule. If it does not pass so soon,
and the server has answered before, it is waited for. The process's patience bounds all tries
together, those of a first contact too. A rate limit is none of these: the server answers, and says
when to ask again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from vecmigrate.connector import UnreachableError, Waiting, is_known, make_known, patience_seconds
from vecmigrate_qdrant.access.base import T
from vecmigrate_qdrant.location import ServerLocation
from vecmigrate_qdrant.server.faults import (
    CLIENT_ERRORS,
    RATE_LIMIT_PAUSE,
    asked_pause,
    is_passing,
    is_rate_limit,
    reason,
)

LONGEST_PAUSE = 60.0
LONGEST_BACKOFF = 15.0
FIRST_BACKOFF = 0.25
MOST_CHANCE = 0.25
"""Seconds that chance adds to each backoff at most."""
OUTAGE_PAUSE = 5.0
"""Seconds between two tries at most, once a server is waited for: it is to be found back soon."""

_log = logging.getLogger("vecmigrate.qdrant")


class Retrying:
    """Sends requests to one server, from several threads."""

    def __init__(self, location: ServerLocation) -> None:
        self._location = location
        self._server = str(location)
        self._circuit = Circuit()
        # One request at a time waits for a rate limit, and no other takes what it waits for.
        self._turn = threading.Lock()
        self._given_up = False

    def run(self, send: Callable[[], T]) -> T:
        """Return what ``send`` returns, which is called until it does or there is no hope.

        Raises
        ------
        UnreachableError
            If the server does not come back in time, or keeps failing.
        TerminatedError
            If the run is asked to end meanwhile.
        Exception
            One of :data:`CLIENT_ERRORS`, if it is not for a retry to mend.
        """
        with self._turn:
            pass
        try:
            return self._sent(send)
        except CLIENT_ERRORS as error:
            if not is_passing(error):
                raise
            return self._sent_again(send, error)

    def _sent_again(self, send: Callable[[], T], error: Exception) -> T:
        """As :meth:`run`, after a first try that failed."""
        attempt, began = 1, time.monotonic()
        with Waiting(self._server, self._longest()) as waiting:
            while True:
                self._circuit.failed_once()
                pause = self._pause(error, attempt, began)
                self._report(error, attempt)
                waiting.pause(pause, reason(error))
                attempt += 1
                try:
                    return self._sent(send)
                except CLIENT_ERRORS as again:
                    if not is_passing(again):
                        raise
                    error = again

    def _sent(self, send: Callable[[], T]) -> T:
        answer = self._within_rate(send)
        if self._circuit.is_open and patience_seconds():
            self._circuit.close()
        self._circuit.succeeded()
        self._given_up = False
        make_known(self._server)
        return answer

    def _within_rate(self, send: Callable[[], T]) -> T:
        """As ``send``, after as many pauses as the server's rate limits ask for."""
        try:
            return send()
        except CLIENT_ERRORS as error:
            if not is_rate_limit(error):
                raise
            limited: Exception = error
        with self._turn, Waiting(f"the rate limit of {self._server}", None) as waiting:
            while True:
                waiting.pause(asked_pause(limited) or RATE_LIMIT_PAUSE, reason(limited))
                try:
                    return send()
                except CLIENT_ERRORS as error:
                    if not is_rate_limit(error):
                        raise
                    limited = error

    def _patience(self) -> float | None:
        """Return for how many seconds the server is waited for; None if it is not."""
        if self._given_up or not is_known(self._server):
            return None
        return patience_seconds() or None

    def _longest(self) -> float:
        """Return for how many seconds an answer is waited for at most."""
        retries = range(1, self._location.retries + 1)
        tried = sum(_backoff(attempt) + MOST_CHANCE for attempt in retries)
        return self._patience() or min(tried, patience_seconds() or tried)

    def _pause(self, error: Exception, attempt: int, began: float) -> float:
        """Return the seconds to wait before the next try; raises if there is to be none."""
        pause = _backoff(attempt) + random.uniform(0, MOST_CHANCE)
        pause = min(max(pause, asked_pause(error)), LONGEST_PAUSE)
        left_alone = self._circuit.is_open or self._given_up
        within_retries = attempt <= self._location.retries and not left_alone
        is_awaited = self._patience() is not None
        if not (within_retries or is_awaited):
            self._give_up(error)
        most = patience_seconds()
        if not most:
            return pause
        left = began + most - time.monotonic()
        if left <= 0:
            if not is_awaited:
                self._give_up(error)
            self._given_up = True
            raise self._in_vain(error) from error
        longest = LONGEST_PAUSE if within_retries else OUTAGE_PAUSE
        return max(min(pause, longest, left), 0.01)

    def _in_vain(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"the Qdrant server {self._server} went away and was waited for in vain, "
            f"{patience_seconds():.0f} seconds ({reason(error)})",
            remedy="See to the server, then run the same command again; --wait says how long "
            "one is waited for.",
        )

    def _give_up(self, error: Exception) -> NoReturn:
        if self._given_up and patience_seconds():
            # By another thread, or for an earlier request.
            raise self._in_vain(error) from error
        if self._circuit.is_open:
            raise UnreachableError(
                f"the Qdrant server {self._server} failed {self._circuit.failed:,} of "
                f"{self._circuit.tried:,} requests and is left alone now, the last one by "
                f"{reason(error)}",
                remedy="See to the server, then run the same command again.",
            ) from error
        raise error

    def _report(self, error: Exception, attempt: int) -> None:
        _log.info(
            "%s: try %d failed (%s); trying again",
            self._server,
            attempt,
            reason(error),
            extra={
                "event": "vecmigrate.retry",
                "attributes": {
                    "error.type": type(error).__name__,
                    "vecmigrate.attempt": attempt,
                    "server.address": self._location.host,
                    "server.port": self._location.port,
                },
            },
        )


def _backoff(attempt: int) -> float:
    """Return the seconds to wait after a try that failed; the first try is 1."""
    return min(FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16), LONGEST_BACKOFF)


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
        """True if the server is to be left alone."""
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
