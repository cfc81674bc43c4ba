"""Has partitions done by Ray tasks, a bounded number ahead, and yields the outcome in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from vecmigrate.errors import UnreachableError, VecmigrateError
from vecmigrate.events import log_event
from vecmigrate.wording import reason_of

T = TypeVar("T")

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
AHEAD = 2
"""Parts under way or waiting to be taken, for each worker."""


@dataclass
class _Part:
    token: str
    path: Path
    task: Any
    """None where the part is there."""


class PartStream(Generic[T]):
    """What the part files of all partitions hold, in the partitions' order.

    Parameters
    ----------
    submit
        Has a token's part written to a path, and returns the task.
    read
        Reads a part file.
    tokens
        Of the partitions, asked for as they are needed.
    capacity
        Tells how many tasks may run at once; it may change.

    Attributes
    ----------
    found : int
        Parts that an earlier run has left.
    """

    def __init__(
        self,
        ray: Any,
        submit: Callable[[str, Path], Any],
        read: Callable[[Path], Iterator[T]],
        tokens: Iterator[str],
        path_of: Callable[[str], Path],
        capacity: Callable[[], int],
    ) -> None:
        self._ray = ray
        self._submit = submit
        self._read = read
        self._tokens = tokens
        self._path_of = path_of
        self._capacity = capacity
        self._parts: deque[_Part] = deque()
        self._running: list[Any] = []
        self._stopped = False
        self._calling = threading.Lock()
        self.found = 0

    def stop(self) -> None:
        """Cancel what is under way; afterwards no more calls to the cluster are made."""
        self._stopped = True
        with self._calling:
            for task in self._running:
                self._ray.cancel(task, force=True)

    def items(self) -> Iterator[T]:
        """Yield what the files hold; one is removed once all of it was taken."""
        while self._fill():
            part = self._parts[0]
            if not self._await(part):
                continue
            for item in self._read(part.path):
                yield item
                self._fill()
            part.path.unlink()
            self._parts.popleft()

    def _fill(self) -> bool:
        """Submit what there is room for; False at the end."""
        with self._calling:
            if self._stopped:
                return False
            if self._running:
                _, self._running = self._ray.wait(
                    self._running, num_returns=len(self._running), timeout=0
                )
            workers = self._capacity()
            while len(self._running) < workers and len(self._parts) < AHEAD * workers:
                token = next(self._tokens, None)
                if token is None:
                    break
                self._begin(token)
            return bool(self._parts)

    def _begin(self, token: str) -> None:
        path = self._path_of(token)
        task = None
        if path.exists():
            self.found += 1
        else:
            task = self._submit(token, path)
            self._running.append(task)
        self._parts.append(_Part(token, path, task))

    def _await(self, part: _Part) -> bool:
        """Wait a moment for a part; True once it is there.

        Raises
        ------
        VecmigrateError
            The worker's.
        """
        if part.task is None:
            return True
        with self._calling:
            if self._stopped:
                return False
            done, _ = self._ray.wait([part.task], timeout=POLL_SECONDS)
            if not done:
                return False
            self._outcome(part)
        log_event(
            _log,
            logging.DEBUG,
            "vecmigrate.partition.done",
            f"partition {part.token} is done",
            {"vecmigrate.partition": part.token},
        )
        part.task = None
        return True

    def _outcome(self, part: _Part) -> None:
        exceptions = self._ray.exceptions
        try:
            self._ray.get(part.task)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, VecmigrateError):
                raise cause from None
            raise
        except exceptions.RayError as error:
            raise UnreachableError(
                f"Ray could not have partition {part.token} done: {reason_of(error)}",
                remedy="See that its machines are up and have memory; the same command continues.",
            ) from error
