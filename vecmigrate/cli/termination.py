"""SIGTERM lets a command say how it ended, and save before where it can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vecmigrate.errors import TerminatedError
from vecmigrate.runtime.waiting import unwanted_when


@contextmanager
def termination_asked() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has come, which ends waiting for a server."""
    asked = threading.Event()
    with _handled_by(lambda *_: asked.set()), unwanted_when(asked.is_set):
        yield asked.is_set


@contextmanager
def termination_raises() -> Iterator[None]:
    """Have SIGTERM stop what does not ask for it, as Ctrl-C does.

    Raises
    ------
    TerminatedError
        Where it has come.
    """

    def stop(*_: object) -> None:
        raise TerminatedError("stopped by SIGTERM", remedy="Run the same command again.")

    with _handled_by(stop):
        yield


@contextmanager
def _handled_by(handler: Callable[..., None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; elsewhere SIGTERM is somebody else's.
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
