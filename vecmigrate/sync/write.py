"""Changes a target and its ledger, so that a kill in between costs nothing but work."""

from __future__ import annotations

from vecmigrate.connector.registry import open_source, open_updater
from vecmigrate.connector.updater import Updater
from vecmigrate.errors import VerificationError
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.collection import CollectionDescription, Provenance
from vecmigrate.points.ids import name_some
from vecmigrate.state.ledger import Ledger, LedgerRow, Origin
from vecmigrate.sync.reconcile import read_back

_SETTLED_AT_ONCE = 4096


class TargetChanges:
    """Writes to a target, which is opened when the first point is to be written.

    What is about to be written is noted in the ledger first, then written, then read back, then
    noted as done.

    Parameters
    ----------
    in_place
        True if the target's points are the source's own: others may delete them, or take the
        vector from them again, before it is read back.

    Attributes
    ----------
    passed_over
        Points to which that happened: they are known no more, and looked at by the next sync.
    """

    def __init__(
        self, target: str, ledger: Ledger, provenance: Provenance | None, *, in_place: bool = False
    ) -> None:
        self._target = target
        self._ledger = ledger
        self._provenance = provenance
        self._in_place = in_place
        self._updater: Updater | None = None
        self.passed_over = 0

    def complete_interrupted(self) -> None:
        """Let the store complete or remove what a killed run left."""
        if self._ledger.was_interrupted():
            open_updater(self._target, self._provenance).abort()

    def open(self) -> None:
        """Open the target for changes; errors as :func:`open_updater`."""
        self._opened()

    def write(self, batch: VectorBatch, entries: list[LedgerRow]) -> None:
        """Write points of which ``entries`` tell."""
        self._ledger.intend(entries)
        updater = self._opened()
        updater.upsert(batch)
        if updater.flush():
            self._settle(batch)

    def delete(self, ids: IdArray) -> None:
        """Delete points."""
        self._ledger.intend(LedgerRow(point_id, 0, 0, Origin.DELETED) for point_id in ids.tolist())
        updater = self._opened()
        updater.delete(ids)
        if updater.flush():
            self._settle()

    def finish(self) -> CollectionDescription | None:
        """Make everything durable and known; None if nothing was written.

        Raises
        ------
        VerificationError
            If the target does not hold what was written.
        """
        if self._updater is None:
            return None
        described = self._updater.finish()
        self._settle()
        return described

    def let_go(self) -> None:
        """End without what was not flushed."""
        if self._updater is not None:
            self._updater.abort()

    def _opened(self) -> Updater:
        if self._updater is None:
            self._updater = open_updater(self._target, self._provenance)
        return self._updater

    def _settle(self, batch: VectorBatch | None = None) -> None:
        with open_source(self._target) as target:
            while entries := self._ledger.intended(_SETTLED_AT_ONCE):
                written = [e for e in entries if e.origin is not Origin.DELETED]
                good = read_back(target, written, batch, in_place=self._in_place)
                arrived = {entry.id for entry in good}
                lost = {entry.id for entry in written} - arrived
                if lost and not self._in_place:
                    raise VerificationError(
                        f"{self._target} does not hold what was written of "
                        f"{name_some(sorted(lost, key=str))}",
                        remedy="See whether another writer is at work there, then run the same "
                        "command.",
                    )
                self._ledger.settle(entry for entry in entries if entry.id not in lost)
                self._ledger.forget(lost)
                self.passed_over += len(lost)
