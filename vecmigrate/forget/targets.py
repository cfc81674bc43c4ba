"""Points of targets, and what the ledgers of these know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vecmigrate.connector.addresses import canonical_place, followed_place, followed_uri
from vecmigrate.connector.registry import erase_deleted, hold, open_source
from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.errors import InputError, MismatchError, UnreachableError, UsageError
from vecmigrate.forget.options import Left, Removed
from vecmigrate.forget.scope import Move
from vecmigrate.points.batch import IdArray, PointId, id_array
from vecmigrate.points.ids import lookup_of
from vecmigrate.state.file import job_lock, overwrite_freed
from vecmigrate.state.ledger import Ledger, ledger_key, ledger_path, open_ledger
from vecmigrate.state.migrations import job_key
from vecmigrate.sync.write import TargetChanges

_FEW = 256
"""Ids up to which a collection is asked for points, instead of being read for ids."""

_BATCH = 4096

KNOWN = "hashes and origins"
"""What a ledger keeps."""


def ids_there(uri: str, ids: IdArray) -> IdArray:
    """Return those ids that a collection has.

    Raises
    ------
    InputError, UsageError, UnreachableError
        If it cannot be read.
    """
    with open_source(uri) as source:
        return _there(source, ids)


def _there(source: Source, ids: IdArray) -> IdArray:
    if len(ids) <= _FEW:
        return id_array(i for batch in fetch_there(source, ids) for i in batch.ids.tolist())
    wanted, found = lookup_of(ids), np.zeros(len(ids), np.bool_)
    for some in source.ids(_BATCH):
        rows = wanted.rows(some)
        found[rows[rows >= 0]] = True
    return ids[found]


def held(stack: ExitStack, state: Path, move: Move, *, look: bool) -> None:
    """Keep other movers of a target out until the stack is left, on other machines too.

    Raises
    ------
    LockedError
        If one is at work.
    """
    what, locks = f"{move.source} to {move.target}", state.parent / "locks"
    place = followed_uri(move.target)
    keys = [job_key(move.source, place), ledger_key(place)]
    if move.key is not None:
        keys += [move.key, f"{move.key}-run"]
    for key in dict.fromkeys(keys):
        stack.enter_context(job_lock(locks, key, what))
    if not (look or move.is_unfinished):
        # A target that cannot be read is named later.
        with suppress(InputError, UsageError):
            stack.enter_context(hold(place))


class TargetPoints:
    """The points of one target.

    Parameters
    ----------
    look
        Count alone.

    Attributes
    ----------
    removed, left
        By place.
    found
        Ids that were there.
    """

    def __init__(self, move: Move, state: Path, ids: IdArray, *, look: bool) -> None:
        self._move, self._state, self._ids, self._look = move, state, ids, look
        self._place = followed_uri(move.target)
        self.removed: list[Removed] = []
        self.left: list[Left] = []
        self.found: set[PointId] = set()

    def remove(self) -> None:
        """Delete them at the target, then all that is known of them.

        Raises
        ------
        VerificationError
            If the target does not do as it is told.
        UnreachableError, WriteError
        """
        if self._move.is_unfinished:
            self.left.append(
                Left(
                    place=f"{self._move.target}, unfinished, with its ledger and parts",
                    remedy="Run its migration to the end, which leaves out what the source does "
                    "not have any more; then run the same command.",
                )
            )
            return
        path = ledger_path(self._state, self._place)
        # Where there is none, none is made.
        with open_ledger(path, keep=False) as ledger:
            known = _known(ledger, self._ids)
            if not self._delete(ledger):
                return
            if not self._look:
                _erase(ledger, self._ids)
        self._note(str(path), KNOWN, known)

    def _delete(self, ledger: Ledger) -> bool:
        """Delete the points; False if they are to stay, and what is known of them with them."""
        try:
            with open_source(self._place) as target:
                described = target.describe()
                described.require_finished()
                there = _there(target, self._ids)
            if described.in_place or not len(there) or described.provenance is None:
                return True
            if not self._look:
                now = datetime.now(UTC).isoformat(timespec="microseconds")
                made = described.provenance.as_of(now)
                self._change(TargetChanges(self._place, ledger, made), ledger, there)
        except InputError as error:
            self.left.append(
                Left(
                    place=f"{self._move.target}, which cannot be read: {error.message}",
                    remedy="If it was moved, name it with --target.",
                )
            )
            return True
        except (MismatchError, UsageError) as error:
            self.left.append(
                Left(place=f"{self._move.target}: {error.message}", remedy=error.remedy)
            )
            return False
        self._note(self._place, "points", set(there.tolist()))
        return True

    def _change(self, writing: TargetChanges, ledger: Ledger, ids: IdArray) -> None:
        writing.complete_interrupted()
        writing.open()
        ledger.note(run=ledger.run)
        try:
            for start in range(0, len(ids), _BATCH):
                writing.delete(ids[start : start + _BATCH])
            writing.finish()
        finally:
            writing.let_go()

    def _note(self, place: str, what: str, points: set[PointId]) -> None:
        self.found |= points
        if points:
            self.removed.append(Removed(place=place, what=what, points=len(points)))

    def remnants(self) -> list[Left]:
        """Have the store overwrite what it can, and name what it keeps."""
        if self._look or self._move.is_unfinished:
            return []
        try:
            kept = erase_deleted(self._place)
        except (InputError, UsageError):
            return []
        return [Left(place=each.place, remedy=each.remedy) for each in kept]


def erase_known(state: Path, collection: str, ids: IdArray, *, look: bool) -> list[Removed]:
    """Remove what ledgers know of points that a source does not have any more.

    There are some if another move made it, or if changes were brought back to it.
    """
    removed = []
    # Not followed, since nobody need be there to answer.
    key = ledger_key(collection, canonical_place)
    for path in (state.parent / "ledgers").glob(f"{key}*.sqlite"):
        with open_ledger(path) as ledger:
            known = _known(ledger, ids)
            if not look:
                _erase(ledger, ids)
        if known:
            removed.append(Removed(place=str(path), what=KNOWN, points=len(known)))
    return removed


def _known(ledger: Ledger, ids: IdArray) -> set[PointId]:
    return {i for some in _parts(ids) for i in ledger.known(some)}


def _erase(ledger: Ledger, ids: IdArray) -> None:
    for some in _parts(ids):
        ledger.erase(some)
    overwrite_freed(ledger.connection)


def _parts(ids: IdArray) -> Iterator[IdArray]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))


def still_there(
    sources: list[str], targets: list[str], ids: IdArray, *, all_the_same: bool
) -> tuple[IdArray, list[Left]]:
    """Return the ids that a source has, and what is to be said of sources that cannot be read.

    Parameters
    ----------
    all_the_same
        A source that does not answer may have them.

    Raises
    ------
    UnreachableError
        Otherwise.
    """
    found: dict[PointId, None] = {}
    left: list[Left] = []
    led = {followed_place(target) for target in targets}
    for source in sources:
        try:
            if followed_place(source) in led:
                # What another move made, or a name that a cutover has led to a target.
                continue
            found.update(dict.fromkeys(ids_there(source, ids).tolist()))
        except (InputError, UnreachableError) as error:
            if isinstance(error, UnreachableError) and not all_the_same:
                raise
            left.append(
                Left(
                    place=f"{source}, which cannot be read: {error.message}",
                    remedy="If it was moved, see there; vecmigrate deletes nothing at a source.",
                )
            )
    return id_array(found), left
