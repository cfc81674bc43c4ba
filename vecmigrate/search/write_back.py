"""Vectors that queries have bought become the target's own."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

from vecmigrate.connector.registry import hold, open_source
from vecmigrate.errors import LockedError, VecmigrateError
from vecmigrate.search.purchases import QueryVectors
from vecmigrate.state.file import job_lock
from vecmigrate.state.ledger import ledger_key, ledger_path, open_ledger
from vecmigrate.sync.reembed import write_back
from vecmigrate.sync.write import TargetChanges

_log = logging.getLogger(__name__)

WORTH_IT = 100
"""One of so many points bought is worth a change of the collection, which may be a file."""


def write_back_bought(place: str, state: Path, bought: QueryVectors) -> int:
    """Give points of a target the vectors that were bought of their texts; return how many.

    What is written, or what nobody needs any more, is not kept any longer. Without the target's
    ledger beside the state file nothing tells which points are still ours: then nothing is written.

    Raises
    ------
    LockedError
        If another run is at work on the target.
    VerificationError
        If the target does not hold what was written.
    InputError, UnreachableError, WriteError
        From the store and the disk; what was bought stays.
    """
    path = ledger_path(state, place)
    if not path.exists():
        return 0
    with ExitStack() as stack:
        locks = state.parent / "locks"
        stack.enter_context(job_lock(locks, ledger_key(place), f"what queries of {place} bought"))
        stack.enter_context(hold(place))
        # Asked for now that nobody else drops any: numbers are given again.
        ids, last = bought.points()
        if not len(ids):
            return 0
        ledger = stack.enter_context(open_ledger(path))
        target = stack.enter_context(open_source(place))
        described = target.describe()
        if described.in_place:
            return 0
        writing, written = TargetChanges(place, ledger, described.provenance), 0
        writing.complete_interrupted()
        try:
            for batch, entries in write_back(ledger, target, bought, ids, described.text_field):
                if not written:
                    ledger.note(run=ledger.run, marked=True)
                writing.write(batch, entries)
                written += len(batch)
            writing.finish()
        finally:
            writing.let_go()
        bought.drop(last)
    return written


class WritingBack:
    """Writes back what queries have bought, now and then, in a thread; a context.

    Parameters
    ----------
    every
        Seconds from one time to the next.
    least
        Vectors that are worth it, before the end.
    """

    def __init__(
        self, place: str, state: Path, bought: QueryVectors, every: float, least: int
    ) -> None:
        self._place, self._state, self._bought = place, state, bought
        self._every, self._least, self._ended = every, least, Event()
        self._thread = Thread(target=self._run, name="write-back", daemon=True)

    def __enter__(self) -> WritingBack:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._write(self._least)
        self._write(1)

    def _write(self, least: int) -> None:
        try:
            if self._bought.count() >= least:
                write_back_bought(self._place, self._state, self._bought)
        except LockedError:
            # A sync is at work, and takes along what is here; or the next time does.
            pass
        except VecmigrateError as error:
            _log.warning("what queries have bought is kept, and not written back: %s", error)
