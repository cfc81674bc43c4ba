"""Compares what points have beside the translated vector: it is to have been copied unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecmigrate.batches import PointId, VectorBatch
from vecmigrate.description import CollectionDescription
from vecmigrate.verification.record import Check, Outcome
from vecmigrate.wording import name_some

TOLERANCE = 1e-6
"""How far a copied vector may be off, relative to its length: a store may normalise it again."""

_NAMED = 10


class OtherVectors:
    """Compares the extras of points of the old collection with the new one's.

    Attributes
    ----------
    wanted
        True where there are some to compare, and both stores know them.
    """

    def __init__(self, source: CollectionDescription, target: CollectionDescription) -> None:
        # Points that are the source's own have what they have.
        self._names = () if target.in_place else source.other_vectors
        self.wanted = bool(self._names) and source.store == target.store
        self._compared = 0
        self._wrong: list[PointId] = []

    def compare(self, ours: VectorBatch, theirs: VectorBatch) -> None:
        """Compare points of the old collection with those of them that the new one has."""
        if not self.wanted or ours.extras is None:
            return
        mine = dict(zip(ours.ids.tolist(), ours.extras, strict=True))
        others = theirs.extras or [{}] * len(theirs)
        for point, found in zip(theirs.ids.tolist(), others, strict=True):
            self._compared += 1
            if not alike(mine[point], found):
                self._wrong.append(point)

    def checks(self) -> list[Check]:
        """Return what was found; nothing where the old collection has no other vectors."""
        if not self._names:
            return []
        names = ", ".join(map(repr, self._names))
        outcome = Outcome.FAILED if self._wrong else Outcome.PASSED
        summary = f"{names} of {self._compared:,} points are the source's"
        if self._wrong:
            summary = (
                f"{names}, or the shard key, of {len(self._wrong):,} of {self._compared:,} points "
                f"are not the source's, ids {name_some(self._wrong[:_NAMED])}"
            )
        elif not self._compared:
            outcome, summary = Outcome.SKIPPED, f"{names} are not at the target"
        return [
            Check(
                name="other vectors",
                outcome=outcome,
                summary=summary,
                figures={"compared": self._compared, "wrong": len(self._wrong)},
            )
        ]


def alike(ours: Any, theirs: Any) -> bool:
    """Tell whether two extras are the same, but for the rounding of floating-point numbers."""
    if ours == theirs:
        return True
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(alike(ours[k], theirs[k]) for k in ours)
    if not (isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)):
        return False
    if not all(isinstance(value, float) for value in (*ours, *theirs)):
        return all(map(alike, ours, theirs))
    expected, found = np.array(ours), np.array(theirs)
    return bool(np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected))
