"""Has partitions done by Ray tasks, a bounded number ahead, and yields the outcome in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from vecmigrate.errors import UnreachableError, VecmigrateError, WriteError, reason_of
from vecmigrate.migration.engines.permit import Permit, issue_permit
from vecmigrate.telemetry.events import log_event

T = TypeVar("T")

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
AHEAD = 2
"""Parts under way or waiting to be taken, for each worker."""
QUIET_SECONDS = 5.0
STOP_SECONDS = 900.0
"""How long a stopped run waits for tasks at work. Each ends after its batch in hand. A task whose
machine was lost, so that Ray is to try it again elsewhere, may never end."""


@dataclass
class _Part:
    token: str
    path: Path
    task: tuple[Any, Permit] | None
    """None if the part is there."""


class PartStream(Generic[T]):
    """What the part files of all partitions hold, in the partitions' order.

    Parameters
    ----------
    submit
        Has a token's part written to a path while a permit lasts, and returns the task, whose
        outcome is False if the permit did not.
    read
        Reads a part file.
    tokens
        Of the partitions, asked for as they are needed.
    capacity
        Tells how many tasks may run at once; it may change.
    announce
        Called with a line for a person.
    keep
        Leave the files when they are taken: what they hold was paid for, and what is taken is not
        durable yet.

    Attributes
    ----------
    found : int
        Parts that an earlier run has left.
    """

    def __init__(
        self,
        ray: Any,
        submit: Callable[[str, Path, Permit], Any],
        read: Callable[[Path], Iterator[T]],
        tokens: Iterator[str],
        path_of: Callable[[str], Path],
        capacity: Callable[[], int],
        announce: Callable[[str], None],
        *,
        keep: bool = False,
    ) -> None:
        self._keep = keep
        self._ray = ray
        self._submit = submit
        self._read = read
        self._tokens = tokens
        self._path_of = path_of
        self._capacity = capacity
        self._announce = announce
        self._parts: deque[_Part] = deque()
        self._running: list[Any] = []
        self._stopped = False
        self._calling = threading.Lock()
        self.found = 0

    def stop(self) -> None:
        """Have what is under way end, and wait until none of it writes any more.

        Afterwards no more calls to the cluster are made.
        """
        self._stopped = True
        with self._calling:
            tasks = [part.task for part in self._parts if part.task is not None]
            # All are told before the first is waited for.
            begun = [task for task, permit in tasks if permit.withdraw()]
            left = self._wait(begun, QUIET_SECONDS)
            if left:
                self._announce(f"waiting for {len(left)} tasks to end")
                left = self._wait(left, STOP_SECONDS)
            if left:
                self._announce(f"{len(left)} tasks did not end: look for workers that hang")

    def _wait(self, tasks: list[Any], seconds: float) -> list[Any]:
        """Return those that have not ended by then."""
        if not tasks:
            return []
        _, left = self._ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
        return cast(list[Any], left)

    def items(self) -> Iterator[T]:
        """Yield what the files hold; one is removed once all of it was taken, if not kept."""
        while self._fill():
            part = self._parts[0]
            if not self._await(part):
                continue
            for item in self._read(part.path):
                yield item
                self._fill()
            if not self._keep:
                part.path.unlink()
            with self._calling:
                self._parts.popleft()

    def _fill(self) -> bool:
        """Submit what there is room for; False at the end."""
        with self._calling:
            if self._stopped:
                return False
            self._running = self._wait(self._running, 0)
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
            permit = issue_permit(path.parent)
            task = self._submit(token, path, permit), permit
            self._running.append(task[0])
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
            task, permit = part.task
            if self._wait([task], POLL_SECONDS):
                return False
            self._outcome(part, task)
            permit.withdraw()
            part.task = None
        log_event(
            _log,
            logging.DEBUG,
            "vecmigrate.partition.done",
            f"partition {part.token} is done",
            {"vecmigrate.partition": part.token},
        )
        return True

    def _outcome(self, part: _Part, task: Any) -> None:
        exceptions = self._ray.exceptions
        try:
            done = self._ray.get(task)
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
        if not done:
            raise WriteError(
                f"a worker does not see what the driver has put into {part.path.parent}",
                remedy="Name a folder with --parts that all machines see under the same path, and "
                "leave it alone meanwhile; the same command continues.",
            )
