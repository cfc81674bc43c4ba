"""What several who open one place in this process have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedPlaces(Generic[T]):
    """Places that are opened once in this process, and closed when the last one lets go."""

    def __init__(self, close: Callable[[T], None]) -> None:
        self._close = close
        self._opening = threading.Lock()
        self._open: dict[Hashable, tuple[T, int]] = {}

    def take(
        self,
        held: ExitStack,
        key: Hashable,
        make: Callable[[], T],
        ready: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Return what is open at a place, or open it.

        Parameters
        ----------
        held
            Lets go of it when it is closed.
        make
            Opens it.
        ready
            Called with it before anyone has it; if it raises, nothing was taken.
        """
        with self._opening:
            found, users = self._open.get(key) or (make(), 0)
            ready(found)
            self._open[key] = found, users + 1
            held.callback(self._give_back, key)
            return found

    def _give_back(self, key: Hashable) -> None:
        with self._opening:
            found, users = self._open.pop(key)
            if users > 1:
                self._open[key] = found, users - 1
            else:
                self._close(found)
