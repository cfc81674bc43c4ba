"""A run's lease on a target: while it lasts, no other run changes the target.

A lease is kept with the target, where every machine that can change the target sees it: in a file
beside it, or in what a server keeps of it. It names its holder, who gives a sign of life again and
again until the lease is given back. A lease whose holder is gone is dead: the next run takes it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.connector.failures import writing
from vecmigrate.errors import LockedError, UsageError, VecmigrateError
from vecmigrate.runtime.durations import parse_duration
from vecmigrate.runtime.process import Process, machine_identity
from vecmigrate.runtime.waiting import Waiting

VARIABLE, DEFAULT_SECONDS = "VECMIGRATE_LEASE", "2m"
SHORTEST_SECONDS = 1.0
_SIGNS = 6
"""Signs of life in the time after which a lease without one is dead."""
SETTLE_SECONDS = 0.5
_POLL_SECONDS = 0.5

_open: set[str] = set()
"""Leases of this process: one that stayed behind, since a server was away, is nobody's."""

_of_this_run: ContextVar[Mapping[str, Lease]] = ContextVar(
    "_of_this_run", default=MappingProxyType({})
)
"""Leases that the run holds, by their places' keys: what it opens there is under them."""

_log = logging.getLogger(__name__)


class Holder(BaseModel):
    """Who holds a lease.

    Attributes
    ----------
    id
        Of this lease alone.
    process
        None if the lease cannot be read.
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
    process: Process | None
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

    @classmethod
    def unknown(cls, seen: int) -> Self:
        """The holder of a lease that cannot be read, and that was last written at ``seen``."""
        return cls(
            id="",
            process=None,
            machine=None,
            since=datetime.fromtimestamp(seen, UTC).isoformat(timespec="seconds"),
            seen=seen,
            signs=seen,
            seconds=lease_seconds(),
        )

    @classmethod
    def parse(cls, found: Any) -> Self | None:
        """Return the holder that a JSON object tells of; None if it is no lease."""
        try:
            return cls.model_validate(found)
        except ValidationError:
            return None

    def living(self) -> Self:
        """Return the holder with a further sign of life."""
        return self.model_copy(update={"seen": int(time.time()), "signs": self.signs + 1})

    def is_there(self) -> bool | None:
        """Tell whether the lease is still in use; None if that cannot be seen from here."""
        if self.process is None or self.machine is None or self.machine != machine_identity():
            return None
        if self.process == Process.this():
            return self.id in _open
        return self.process.is_there()

    def __str__(self) -> str:
        if self.process is None:
            return f"another run since {self.since}"
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


class LeasePlace(ABC):
    """Where the lease on one target is kept.

    Attributes
    ----------
    key
        Tells the place from any other.
    exclusive
        True if of several who find the same there and write at once, one alone does, and knows it.
    """

    key: str
    exclusive: ClassVar[bool] = False

    @abstractmethod
    def read(self, *, once: bool = False) -> Holder | None:
        """Return who holds the lease; None if nobody does.

        Parameters
        ----------
        once
            Do not try again if a server fails.

        Raises
        ------
        VecmigrateError
            Here and from the other methods: if the place cannot be reached.
        """

    @abstractmethod
    def write(self, holder: Holder, over: Holder | None, *, once: bool = False) -> bool:
        """Write a holder in the place of ``over``, who was found there; None if nobody was.

        False if another was faster, as far as that is seen.
        """

    @abstractmethod
    def remove(self, holder: Holder) -> None:
        """Take away the lease of a holder, who has it."""


class Lease:
    """A run's lease on a target.

    Parameters
    ----------
    where
        The target's name, for a person.
    waited_for
        What is waited for, for a person, while a lease that seems dead is watched; default: the
        target.
    """

    def __init__(self, place: LeasePlace, where: object, waited_for: str | None = None) -> None:
        self._place = place
        self._where = str(where)
        self._waited_for = waited_for or self._where
        self._holder = Holder.this()
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._outer: Lease | None = None
        self._lost_to: str | None = None
        self._renewed = (time.monotonic(), time.time())

    @property
    def id(self) -> str:
        """What tells the lease from any other."""
        return self._holder.id

    @property
    def is_held(self) -> bool:
        """True from when it is taken until it is given back or seen to be lost."""
        if self._outer is not None:
            return self._outer.is_held
        return self._thread is not None and self._lost_to is None

    @property
    def is_lost(self) -> bool:
        """True once it is seen that another run took it."""
        return self._outer.is_lost if self._outer is not None else self._lost_to is not None

    def sign(self) -> Holder:
        """Return the holder with a further sign of life, to be written by the caller."""
        _open.add(self.id)
        self._holder = self._holder.living()
        return self._holder

    def is_of(self, found: Holder | None) -> bool:
        """Tell whether a lease that was read is this one."""
        return found is not None and found.id == self.id

    def await_free(self) -> Holder | None:
        """Return if no other run holds the target: who had it last, if the lease is dead.

        A lease of a process on this machine is dead if the process is. Any other one is dead if no
        sign of life came for its time, by both clocks, and none comes while it is watched.

        Raises
        ------
        LockedError
            If one does, naming it.
        """
        found = self.refuse_if_held()
        if found is None or self.is_of(found) or self._place.key in _of_this_run.get():
            return found
        return found if found.is_there() is False else self._watch(found)

    def refuse_if_held(self) -> Holder | None:
        """As :meth:`await_free`, but a lease that seems dead is not watched."""
        found = self._place.read()
        if found is None or self.is_of(found) or self._place.key in _of_this_run.get():
            return found
        there, silent = found.is_there(), time.time() - found.seen
        # Of a clock that is ahead or behind, the sign of life may be of any age.
        if there or (there is None and 0 <= silent < found.seconds):
            raise self._held_by(found)
        return found

    def claim(self) -> None:
        """Take the lease, or be under the one that the run holds already.

        Raises
        ------
        LockedError
            As :meth:`await_free`.
        """
        if self._thread is not None or self._outer is not None:
            return
        outer = _of_this_run.get().get(self._place.key)
        if outer is not None:
            outer.check()
            self._outer = outer
            return
        found = self.await_free()
        began = time.monotonic()
        try:
            if not self._place.write(self.sign(), found):
                raise self._taken(self._place.read())
            if not self._place.exclusive:
                # Who read before this was written has written by then, and the last one has it.
                time.sleep(max(SETTLE_SECONDS, 2 * (time.monotonic() - began)))
                self.confirm(self.id)
        except BaseException:
            _open.discard(self.id)
            raise
        self.begin()

    def confirm(self, lease: str) -> None:
        """Raise :class:`LockedError` unless the target has the lease of this id."""
        found = self._place.read()
        if found is None or found.id != lease:
            raise self._taken(found)

    def begin(self) -> None:
        """Give signs of life from now on; the target has the lease already."""
        if self._thread is not None:
            return
        _open.add(self.id)
        self._over, self._lost_to = threading.Event(), None
        self._renewed = (time.monotonic(), time.time())
        self._thread = threading.Thread(
            target=self._live, args=(self._over,), name="vecmigrate-lease", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`LockedError` if the lease, once begun, is lost.

        If no sign of life was given for long, as after the process or its machine was halted, one
        is given now.
        """
        if self._outer is not None:
            self._outer.check()
            return
        if self._thread is not None and self._quiet_seconds() > self._holder.seconds / 2:
            self._renew()
        if self._lost_to is not None:
            raise LockedError(
                f"{self._lost_to} took over {self._where}, since this run gave no sign of life",
                remedy="Let it finish; nothing is left for this run to do.",
            )

    def renew(self) -> None:
        """Give a sign of life now; raises as :meth:`check`."""
        if self._outer is not None:
            self._outer.renew()
            return
        if self._thread is not None:
            self._renew()
        self.check()

    def stop(self) -> None:
        """Give no sign of life any more, and return once none is on its way."""
        self._over.set()
        with self._writing:
            pass

    def forget(self) -> None:
        """Take note that the target has the lease no more."""
        self._thread = self._outer = None
        _open.discard(self.id)

    def release(self) -> None:
        """Give the lease back, if it was begun and not lost. A server that is away keeps it."""
        self.stop()
        begun = self._thread is not None and self._lost_to is None
        self.forget()
        if not begun:
            return
        try:
            if self.is_of(self._place.read(once=True)):
                self._place.remove(self._holder)
        except VecmigrateError as error:
            _log.debug("the lease on %s stays behind: %s", self._where, error)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Take the lease for what the context opens, and give it back if that fails.

        Raises
        ------
        LockedError
            As :meth:`await_free`.
        """
        self.claim()
        try:
            yield
        except BaseException:
            self.release()
            raise

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease for a run: what the run opens at the target meanwhile is under it.

        Raises
        ------
        LockedError
            As :meth:`await_free`.
        """
        self.claim()
        token = _of_this_run.set({**_of_this_run.get(), self._place.key: self._outer or self})
        try:
            yield
        finally:
            _of_this_run.reset(token)
            self.release()

    def _live(self, over: threading.Event) -> None:
        while not over.wait(self._holder.seconds / _SIGNS):
            try:
                self._renew(once=True)
            except VecmigrateError as error:
                # The writes meet the same fault, and wait for it to pass or end the run.
                _log.debug("no sign of life on %s: %s", self._where, error)

    def _renew(self, *, once: bool = False) -> None:
        with self._writing:
            if self._over.is_set() or self._lost_to is not None:
                return
            found = self._place.read(once=once)
            if not self.is_of(found):
                self._lost_to = str(found or "another run")
                return
            self._place.write(self.sign(), found, once=once)
            self._renewed = (time.monotonic(), time.time())

    def _quiet_seconds(self) -> float:
        """Since the last sign of life; one clock stands still in a halt, the other may be set."""
        steady, wall = self._renewed
        return max(time.monotonic() - steady, time.time() - wall)

    def _watch(self, found: Holder) -> Holder | None:
        """Return if no sign of life comes for half the time of a lease that seems dead."""
        most = found.seconds / 2
        with Waiting(self._waited_for, most) as waiting:
            while waiting.waited < most:
                waiting.pause(_POLL_SECONDS, f"is {found} still writing {self._where}?")
                now = self._place.read()
                if now is None:
                    return None
                if (now.id, now.signs) != (found.id, found.signs):
                    raise self._held_by(now)
        return found

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


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class LeaseFile(LeasePlace):
    """A lease in a file, for a target on a disk that several machines may share.

    The system's locks would not do: they do not reach across every network file system.

    Parameters
    ----------
    path
        The file's.
    """

    exclusive = True
    SUFFIX: ClassVar[str] = ".vecmigrate-lease"
    """What the name of a lease beside its target ends with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = f"{os.path.realpath(path.parent)}/{path.name}"

    @classmethod
    def beside(cls, target: Path) -> Self:
        """The lease on a file or folder, whichever links lead there: one of its own beside it."""
        real = Path(os.path.realpath(target))
        return cls(real.with_name(f".{real.name}{cls.SUFFIX}"))

    def can_be_written(self) -> bool:
        """True unless the file's folder takes no files, so that nothing in it is changed."""
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    def read(self, *, once: bool = False) -> Holder | None:
        with writing(self.path):
            try:
                changed = int(self.path.stat().st_mtime)
                return Holder.model_validate_json(self.path.read_bytes())
            except (FileNotFoundError, NotADirectoryError):
                return None
            except (ValidationError, PermissionError):
                # Another user's; cut off by a power cut; or being written just now where a disk has
                # no second names.
                return Holder.unknown(changed)

    def write(self, holder: Holder, over: Holder | None, *, once: bool = False) -> bool:
        made = self.path.with_name(f"{self.path.name}.{holder.id}")
        with writing(self.path):
            try:
                made.write_text(holder.model_dump_json(), encoding="utf-8")
                if over is None:
                    won = self._link(made)
                elif over.id == holder.id:
                    made.replace(self.path)
                    return True
                else:
                    won = self._take(made, holder, over)
            finally:
                made.unlink(missing_ok=True)
        if won:
            self._tidy()
        return won

    def remove(self, holder: Holder) -> None:
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def _link(self, made: Path) -> bool:
        """Give a file the lease's name if there is none."""
        try:
            os.link(made, self.path)
        except (FileExistsError, FileNotFoundError):
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A disk without second names.
            with suppress(FileExistsError), self.path.open("xb") as file:
                file.write(made.read_bytes())
                return True
            return False
        return True

    def _take(self, made: Path, holder: Holder, over: Holder) -> bool:
        """Put a file in the place of a dead lease."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            alone = True
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a disk that locks no folders
                alone = False
            if self.read() != over:
                return False
            made.replace(self.path)
        finally:
            os.close(folder)
        quiet = 0 <= time.time() - over.seen < over.seconds / 3
        if not (alone and quiet and over.is_there() is False):
            # Another machine may take the lease too: the last one has it.
            time.sleep(SETTLE_SECONDS)
            found = self.read()
            return found is not None and found.id == holder.id
        return True

    def _tidy(self) -> None:
        """Remove what killed runs left: who is writing a lease now does not get it."""
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):
            left.unlink(missing_ok=True)


@contextmanager
def held_beside(target: Path, where: object) -> Iterator[None]:
    """Hold the lease on a file or folder that is there; see :meth:`Lease.held`.

    Parameters
    ----------
    where
        The target's name, for a person.
    """
    file = LeaseFile.beside(target)
    lease = Lease(file, where)
    if file.can_be_written():
        with lease.held():
            yield
    else:
        lease.await_free()
        yield
