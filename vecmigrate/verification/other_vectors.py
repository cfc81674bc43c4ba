"""Compares what points have beside the translated vector: it is to have been copied unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecmigrate.points.batch import Extra, PointId, VectorBatch
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.ids import name_some
from vecmigrate.verification.record import Check, Outcome

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
        self._unknown = unknown_vectors(source, target)
        # Points that are the source's own have what they have.
        names = () if target.in_place else source.other_vectors
        self._names = tuple(name for name in names if name not in self._unknown)
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
            if not alike(without_vectors(mine[point], self._unknown), found):
                self._wrong.append(point)

    def checks(self) -> list[Check]:
        """Return what was found; nothing where the old collection has no other vectors."""
        if not self._names and not self._unknown:
            return []
        names = ", ".join(map(repr, self._names))
        outcome, told = Outcome.PASSED, []
        if self._wrong:
            outcome = Outcome.FAILED
            told.append(
                f"{names} of {len(self._wrong):,} of {self._compared:,} points are not the "
                f"source's, ids {name_some(self._wrong[:_NAMED])}"
            )
        elif self._compared:
            told.append(f"{names} of {self._compared:,} points are the source's")
        elif self._names:
            outcome = Outcome.SKIPPED
            told.append(f"{names} are not at the target")
        if self._unknown:
            outcome = Outcome.FAILED if self._wrong else Outcome.WARNING
            told.append(lacking_vectors(self._unknown))
        return [
            Check(
                name="other vectors",
                outcome=outcome,
                summary="; ".join(told),
                figures={
                    "compared": self._compared,
                    "wrong": len(self._wrong),
                    "not_at_target": list(self._unknown),
                },
            )
        ]


def unknown_vectors(
    source: CollectionDescription, target: CollectionDescription
) -> tuple[str, ...]:
    """Name the other vectors of a source for which a target of the same store has no place.

    A migration makes a place for each, so that the source got these later.
    """
    if target.in_place or source.store != target.store:
        return ()
    return tuple(name for name in source.other_vectors if name not in target.other_vectors)


def lacking_vectors(names: Sequence[str]) -> str:
    """Say that a target has no place for vectors, and what to do."""
    return (
        f"the target has no vector {', '.join(map(repr, names))}: the source got it after the "
        "migration; if readers of the target need it, migrate to a new target"
    )


def without_vectors(extra: Extra, names: Sequence[str]) -> Extra:
    """Return what a point has beside its vector, without the vectors named."""
    if not names:
        return extra
    left = {}
    for key, value in extra.items():
        if isinstance(value, dict):
            value = {name: vector for name, vector in value.items() if name not in names}
        if value != {}:
            left[key] = value
    return left


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
