"""A run's lease on a target: while it lasts, no other run writes there.

Qdrant has no locks, and merges a collection's metadata key by key, so that a lease is a key of its
own: a run writes its name there, waits a moment, and goes on if the name is still its own. A thread
then writes a sign of life, again and again, until the lease is given back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from qdrant_client import models

from vecmigrate.connector import (
    LockedError,
    Process,
    UsageError,
    VecmigrateError,
    Waiting,
    WriteError,
    machine_identity,
    parse_duration,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.marks import LEASE_KEY

VARIABLE, DEFAULT_SECONDS = "VECMIGRATE_LEASE", "2m"
SHORTEST_SECONDS = 1.0
_SIGNS = 6
"""Signs of life in the time after which a lease without one is dead."""
_SETTLE_SECONDS = 0.5
_POLL_SECONDS = 0.5

_open: set[str] = set()
"""Leases of this process: one that a server kept, since it was away, is nobody's."""

_log = logging.getLogger("vecmigrate.qdrant")

Run: TypeAlias = Callable[[Callable[[Any], Any]], Any]


class Holder(BaseModel):
    """Who holds a lease.

    Attributes
    ----------
    id
        Of this lease alone.
    machine
        See :func:`machine_identity`.
    since
        In ISO 8601.
    seen
        The last sign of life, in Unix seconds by the holder's clock.
    signs
        How many there were.
    seconds
        Without a sign of life after which the lease is dead.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    process: Process
    machine: str | None
    since: str
    seen: int
    signs: int = 0
    seconds: float

    @classmethod
    def this(cls) -> Self:
        """This process, as the holder of a new lease."""
        return cls(
            id=uuid.uuid4().hex,
            process=Process.this(),
            machine=machine_identity(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            seen=int(time.time()),
            seconds=lease_seconds(),
        )

    def is_there(self) -> bool | None:
        """Tell whether the lease is still in use; None if that cannot be seen from here."""
        if self.machine is None or self.machine != machine_identity():
            return None
        if self.process == Process.this():
            return self.id in _open
        return self.process.is_there()

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.process.host} since {self.since}"


def lease_seconds() -> float:
    """Return after how many seconds without a sign of life a lease made here is dead.

    Raises
    ------
    UsageError
        If the environment variable that says so is no duration, or too short a one.
    """
    seconds = parse_duration(os.environ.get(VARIABLE) or DEFAULT_SECONDS)
    if seconds < SHORTEST_SECONDS:
        raise UsageError(
            f"{VARIABLE} is {seconds:g} seconds, within which no server is sure to answer",
            remedy=f"Say {SHORTEST_SECONDS:g}s or more; the default is {DEFAULT_SECONDS}.",
        )
    return seconds


class Lease:
    """A run's lease on a collection, or on a vector of one. Embedded storage needs none.

    Parameters
    ----------
    if
        The target's name, for a person.
    vector
        The vector that is added to a collection; None for a collection of the run's own.
    """

    def __init__(
        self, access: Access, collection: str, where: str, vector: str | None = None
    ) -> None:
        self._access = access
        self._collection = collection
        self._where = where
        self._key = LEASE_KEY if vector is None else f"{LEASE_KEY}:{vector}"
        self._needed = not access.embedded
        self._holder = Holder.this()
        _open.add(self.id)
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._lost_to: str | None = None
        self._renewed = (time.monotonic(), time.time())

    @property
    def id(self) -> str:
        """What tells the lease from any other."""
        return self._holder.id

    def entry(self) -> dict[str, Any]:
        """The metadata that hold the lease, with a sign of life."""
        if not self._needed:
            return {}
        self._holder = self._holder.model_copy(
            update={"seen": int(time.time()), "signs": self._holder.signs + 1}
        )
        return {self._key: self._holder.model_dump(mode="json")}

    def no_entry(self) -> dict[str, Any]:
        """The metadata that take the lease away."""
        return {self._key: None} if self._needed else {}

    def is_in(self, info: models.CollectionInfo) -> bool:
        """Tell whether a collection has this lease; any has if none is needed."""
        found = self._found_in(info)
        return not self._needed or (found is not None and found.id == self.id)

    def await_free(self) -> None:
        """Return if no other run holds the target.

        A lease of a process on this machine is dead if the process is. Any other one is dead if no
        sign of life came for its time, by both clocks, and none comes while it is watched.

        Raises
        ------
        LockedError
            If one does, naming it.
        """
        found = self._found() if self._needed else None
        if found is None or found.id == self.id:
            return
        there = found.is_there()
        if there is False:
            return
        silent = time.time() - found.seen
        # Of a clock that is ahead or behind, the sign of life may be of any age.
        if there or 0 <= silent < found.seconds:
            raise self._held_by(found)
        self._watch(found)

    def claim(self) -> None:
        """Take the lease; raises as :meth:`await_free`."""
        if not self._needed or self._thread is not None:
            return
        self.await_free()
        began = time.monotonic()
        try:
            self._write(self._access.run, self.entry())
        except WriteError:
            if self._access.exists(self._collection):
                raise
            # Between the two another run took the lease, and begins the collection anew.
            raise self._taken(None) from None
        # Who read before this was written has written by then, and the last one has the lease.
        time.sleep(max(_SETTLE_SECONDS, 2 * (time.monotonic() - began)))
        self.confirm(self.id)
        self.begin()

    def confirm(self, lease: str) -> None:
        """Raise :class:`LockedError` unless the target has the lease of this id."""
        if not self._needed:
            return
        found = self._found()
        if found is None or found.id != lease:
            raise self._taken(found)

    def begin(self) -> None:
        """Give signs of life from now on; the collection has the lease already."""
        if not self._needed or self._thread is not None:
            return
        self._renewed = (time.monotonic(), time.time())
        self._thread = threading.Thread(target=self._live, name="vecmigrate-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`LockedError` if the lease, once begun, is lost.

        If no sign of life was given for long, as after the process or its machine was halted, one
        is given now.
        """
        if self._thread is not None and self._quiet_seconds() > self._holder.seconds / 2:
            self._renew(self._access.run)
        if self._lost_to is not None:
            raise LockedError(
                f"{self._lost_to} took over {self._where}, since this run gave no sign of life",
                remedy="Let it finish; nothing is left for this run to do.",
            )

    def renew(self) -> None:
        """Give a sign of life now; raises as :meth:`check`."""
        if self._thread is not None:
            self._renew(self._access.run)
        self.check()

    def stop(self) -> None:
        """Give no sign of life any more, and return once none is on its way."""
        self._over.set()
        with self._writing:
            pass

    def forget(self) -> None:
        """Take note that the target has the lease no more."""
        self._thread = None
        _open.discard(self.id)

    def release(self) -> None:
        """Give the lease back, if it was begun and not lost. A server that is away keeps it."""
        self.stop()
        begun = self._thread is not None and self._lost_to is None
        self.forget()
        if not begun:
            return
        try:
            if self.is_in(self._access.run_once(lambda c: c.get_collection(self._collection))):
                self._write(self._access.run_once, self.no_entry())
        except VecmigrateError as error:
            _log.debug("the lease on %s stays behind: %s", self._where, error)

    def _live(self) -> None:
        while not self._over.wait(self._holder.seconds / _SIGNS):
            try:
                self._renew(self._access.run_once)
            except VecmigrateError as error:
                # The writes meet the same fault, and wait for it to pass or end the run.
                _log.debug("no sign of life on %s: %s", self._where, error)

    def _renew(self, run: Run) -> None:
        with self._writing:
            if self._over.is_set() or self._lost_to is not None:
                return
            info = run(lambda client: client.get_collection(self._collection))
            if not self.is_in(info):
                self._lost_to = str(self._found_in(info) or "another run")
                return
            self._write(run, self.entry())
            self._renewed = (time.monotonic(), time.time())

    def _write(self, run: Run, metadata: dict[str, Any]) -> None:
        run(lambda client: client.update_collection(self._collection, metadata=metadata))

    def _quiet_seconds(self) -> float:
        """Since the last sign of life; one clock stands still in a halt, the other may be set."""
        steady, wall = self._renewed
        return max(time.monotonic() - steady, time.time() - wall)

    def _found(self) -> Holder | None:
        return self._found_in(self._access.info(self._collection))

    def _found_in(self, info: models.CollectionInfo) -> Holder | None:
        try:
            return Holder.model_validate((info.config.metadata or {}).get(self._key))
        except ValidationError:
            return None

    def _watch(self, found: Holder) -> None:
        """Return if no sign of life comes for half the time of a lease that seems dead."""
        most = found.seconds / 2
        with Waiting(self._access.place, most) as waiting:
            while waiting.waited < most:
                waiting.pause(_POLL_SECONDS, f"is {found} still writing {self._where}?")
                now = self._found()
                if now is None:
                    return
                if (now.id, now.signs) != (found.id, found.signs):
                    raise self._held_by(now)

    def _held_by(self, holder: Holder) -> LockedError:
        if holder.is_there():
            return LockedError(
                f"{self._where} is being written by {holder}", remedy="Let it finish, or stop it."
            )
        silent = max(0, round(time.time() - holder.seen))
        return LockedError(
            f"{self._where} is being written by {holder}, whose last sign of life was {silent} "
            "seconds ago",
            remedy=f"Let it finish, or stop it; if it is gone, try again in "
            f"{max(1, round(holder.seconds - silent))} seconds.",
        )

    def _taken(self, found: Holder | None) -> LockedError:
        who = str(found) if found is not None else "another run, or was until just now"
        return LockedError(
            f"{self._where} is held by {who}",
            remedy="Let other runs finish, then run the same command again.",
        )
