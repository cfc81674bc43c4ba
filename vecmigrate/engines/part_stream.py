"""Has partitions translated by Ray tasks, a bounded number ahead, and yields them in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecmigrate.batches import VectorBatch
from vecmigrate.engines.parts import read_part
from vecmigrate.errors import UnreachableError, VecmigrateError
from vecmigrate.events import log_event
from vecmigrate.screening import Skipped
from vecmigrate.wording import reason_of

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
AHEAD = 2
"""Parts under way or waiting to be taken, for each worker."""


@dataclass
class _Part:
    token: str
    path: Path
    task: Any
    """None where an earlier run has left the part."""


class PartStream:
    """The batches of all partitions, in their order.

    Parameters
    ----------
    submit
        Has a token's part written to a path, and returns the task.
    tokens
        Of the partitions, asked for as they are needed.
    workers
        Tasks that run at once.
    skipped
        Gathers the bad vectors left out.

    Attributes
    ----------
    found : int
        Parts that an earlier run has left.
    ended : bool
        True once all batches were taken.
    """

    def __init__(
        self,
        ray: Any,
        submit: Callable[[str, Path], Any],
        tokens: Iterator[str],
        path_of: Callable[[str], Path],
        workers: int,
        skipped: Skipped,
    ) -> None:
        self._ray = ray
        self._submit = submit
        self._tokens = tokens
        self._path_of = path_of
        self._workers = workers
        self._skipped = skipped
        self._parts: deque[_Part] = deque()
        self._running: list[Any] = []
        self._stopped = False
        self._calling = threading.Lock()
        self.found = 0
        self.ended = False

    def stop(self) -> None:
        """Have no more calls to the cluster made; returns when none is under way."""
        self._stopped = True
        with self._calling:
            pass

    def batches(self) -> Iterator[VectorBatch]:
        """Yield the batches; a part is removed once all of it was taken."""
        while self._fill():
            part = self._parts[0]
            if not self._await(part):
                continue
            for read in read_part(part.path):
                self._skipped.ids += read.skipped
                if len(read.batch):
                    yield read.batch
                    self._fill()
            part.path.unlink()
            self._parts.popleft()
        self.ended = not self._stopped

    def _fill(self) -> bool:
        """Submit what there is room for; False at the end."""
        with self._calling:
            if self._stopped:
                return False
            if self._running:
                _, self._running = self._ray.wait(
                    self._running, num_returns=len(self._running), timeout=0
                )
            while len(self._running) < self._workers and (len(self._parts) < AHEAD * self._workers):
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
            "vecmigrate.partition.translated",
            f"partition {part.token} is translated",
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
                f"Ray could not have partition {part.token} translated: {reason_of(error)}",
                remedy="See that its machines are up and have memory; the same command continues.",
            ) from error
