"""How long a server that went away is waited for, and who is told of it.

A connector waits by :class:`Waiting`. The time and the one who is told belong to the process, since
the threads that wait are not those that were asked to.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from vecmigrate.errors import TerminatedError
from vecmigrate.runtime.durations import duration_text, parse_duration
from vecmigrate.telemetry.events import Attributes, log_event

DEFAULT_WAIT = "5m"
LONGEST_REASON = 80

Tell: TypeAlias = Callable[[str | None], None]
"""Called with a line for a person, about each second, and with None once nothing is waited for."""

_log = logging.getLogger(__name__)
_SLICE = 0.2
_TOLD_FROM = 1.0
"""Seconds after which a wait is told of; a shorter one is no news."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a process waits; another process is given it to wait alike.

    Attributes
    ----------
    seconds
        Of waiting for a server in one outage; None if nobody said.
    known
        Servers that have answered: one that has not is not waited for.
    """

    seconds: float | None = None
    known: frozenset[str] = frozenset()


_patience = Patience()
_lock = threading.Lock()
_tell: Tell | None = None
_lines: dict[int, str] = {}
"""What is waited for at this moment, by the wait."""
_unwanted: ContextVar[tuple[Callable[[], bool], ...]] = ContextVar("unwanted", default=())


def current_patience() -> Patience:
    """Return how this process waits."""
    return _patience


def adopt(patience: Patience) -> None:
    """Wait like another process, whose known servers are known here too from now on."""
    global _patience
    with _lock:
        _patience = replace(patience, known=_patience.known | patience.known)


def is_known(server: str) -> bool:
    """True if the server has answered once, so that its absence may be an outage."""
    return server in _patience.known


def make_known(server: str) -> None:
    """Take note that a server has answered."""
    global _patience
    if server not in _patience.known:
        with _lock:
            _patience = replace(_patience, known=_patience.known | {server})


def patience_seconds() -> float:
    """Return for how many seconds a server is waited for in one outage."""
    said = _patience.seconds
    return parse_duration(DEFAULT_WAIT) if said is None else said


@contextmanager
def patience(wait: str | float | None, *, unless_said: bool = False) -> Iterator[None]:
    """Set for how long a server that went away is waited for meanwhile, in this process.

    Parameters
    ----------
    wait
        Seconds, or as ``5m``; 0 to never wait; None to leave it as it is.
    unless_said
        Leave it as it is if it was set already.

    Raises
    ------
    UsageError
        If it is no duration.
    """
    seconds = parse_duration(wait) if isinstance(wait, str) else wait
    before = _patience.seconds
    if seconds is None or (unless_said and before is not None):
        yield
        return
    adopt(Patience(seconds))
    try:
        yield
    finally:
        adopt(Patience(before))


@contextmanager
def waits_told_to(tell: Tell) -> Iterator[None]:
    """Have every wait of the process told to ``tell``, from whichever thread, meanwhile."""
    global _tell
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before


@contextmanager
def unwanted_when(over: Callable[[], bool]) -> Iterator[None]:
    """End the waits begun here, and in the threads that this one's context is given to, if asked.

    Parameters
    ----------
    over
        Asked while waiting, in the waiting thread; True ends the wait.
    """
    token = _unwanted.set((*_unwanted.get(), over))
    try:
        yield
    finally:
        _unwanted.reset(token)


class Waiting:
    """A wait for one server; a context manager.

    Parameters
    ----------
    server
        Its name, for a person.
    most
        Seconds that it is waited for at most; None if it says itself when to ask again.
    """

    def __init__(self, server: str, most: float | None) -> None:
        self._server = server
        self._most = most
        self._begun = time.monotonic()
        self._line: str | None = None

    @property
    def waited(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def pause(self, seconds: float, reason: str) -> None:
        """Sleep, and tell why.

        Raises
        ------
        TerminatedError
            If the run was asked to end, or nobody wants the answer any more.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if any(over() for over in _unwanted.get()):
                raise TerminatedError(
                    f"stopped while waiting for {self._server} ({reason})",
                    remedy="Run the same command again.",
                )
            if self.waited + left >= _TOLD_FROM:
                self._say(left, reason)
            time.sleep(min(left, _SLICE))

    def _say(self, left: float, reason: str) -> None:
        short = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."
        if self._most is None:
            line = f"waiting for {self._server}, {left:.0f} s left ({short})"
        else:
            most = duration_text(self._most)
            line = f"waiting for {self._server}, {self.waited:.0f} s of {most} ({short})"
        if self._line is None:
            _log_wait(
                "vecmigrate.wait.begun", f"waiting for {self._server} ({reason})", self._server, 0.0
            )
        if line != self._line:
            self._line = line
            _set_line(id(self), line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            said = f"waited {self.waited:.0f} s for {self._server}"
            _log_wait("vecmigrate.wait.ended", said, self._server, self.waited)
            _set_line(id(self), None)


def _log_wait(event: str, body: str, server: str, seconds: float) -> None:
    attributes: Attributes = {"vecmigrate.server": server, "vecmigrate.seconds": round(seconds, 1)}
    log_event(_log, logging.INFO, event, body, attributes)


def _set_line(wait: int, line: str | None) -> None:
    """Tell the line of the wait that began last, of those that are left."""
    with _lock:
        if line is None:
            _lines.pop(wait, None)
        else:
            _lines[wait] = line
        if _tell is not None:
            _tell(next(reversed(_lines.values()), None))
