"""SIGTERM asks a command to save and end, instead of ending it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def termination_asked() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has come."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; elsewhere nothing is asked.
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
