"""Compares vectors of the new collection with what the translator makes of the old ones now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.evaluation.search import distances
from vecmigrate.points.batch import Extra, IdArray, PointId, VectorBatch, Vectors, join_batches
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, CollectionDescription, Metric
from vecmigrate.points.ids import name_some
from vecmigrate.translators.base import TOLERANCE
from vecmigrate.verification.records import Check, CheckResult

_ROUNDINGS = 4.0
_NAMED = 10

Expect = Callable[[Iterable[VectorBatch]], Iterator[VectorBatch]]
"""Turns batches of the old collection into those that the new one should hold."""


class Retranslation:
    """Compares points as they come from the old collection.

    Parameters
    ----------
    target
        The new collection, whose points are fetched by id.
    expect
        Translates, and puts kept anchors in; None if all vectors are the new encoder's own.
    keeps_anchors
        True if it does the latter.
    least
        The translator's :attr:`Translator.tolerance`.
    native
        Called with points whose vectors are the new encoder's own, as the old collection has them
        and as the new one does.

    Attributes
    ----------
    compared, native, missing
        Points compared; those left out since the new collection says that the new encoder itself
        made their vectors; those that it does not hold.
    worst
        The largest distance found, relative to the expected vector's length.
    """

    def __init__(
        self,
        target: Source,
        expect: Expect | None,
        *,
        keeps_anchors: bool = False,
        least: float = TOLERANCE,
        native: Callable[[VectorBatch, VectorBatch], None] = lambda ours, theirs: None,
    ) -> None:
        self._target = target
        self._take_native = native
        self._keeps_anchors = keeps_anchors
        self._expect = expect
        described = target.describe()
        self._cosine = described.metric is Metric.COSINE
        self._several = described.multivector
        self._least, self.tolerance = least, tolerance_of(target, least)
        self.compared = self.native = self.missing = self.wrong = 0
        self.worst = self._allowed = 0.0
        self._wrong_ids: list[PointId] = []

    def compare(self, batch: VectorBatch) -> VectorBatch:
        """Compare one batch of the old collection; returns its points as the new one has them."""
        found = self._fetch(batch)
        if not len(found):
            return found
        there = batch if len(found) == len(batch) else _only(batch, found)
        if self._expect is None:
            self.native += len(found)
            self._take_native(there, found)
            return found
        [expected] = self._expect([there])
        comparable = self._comparable(expected, found)
        if not comparable.all():
            self.native += int((~comparable).sum())
            self._take_native(there.take(~comparable), found.take(~comparable))
        if comparable.any():
            self._measure(expected.take(comparable), found.take(comparable))
        return found

    def check(self, *, full: bool) -> Check:
        """Return what was found."""
        if not self.compared:
            return Check.skipped("vectors", "no vector could be compared", **self._figures())
        what = "every vector" if full else f"a sample of {self.compared:,} vectors"
        summary = (
            f"{what} agrees with its re-translation to {self.worst:.1e} of its length "
            f"(allowed {self._most_allowed()})"
        )
        if self.wrong:
            summary = (
                f"{self.wrong:,} of {self.compared:,} vectors are not what the translator makes of "
                f"the source's: off by up to {self.worst:.2g} of their length (allowed "
                f"{self._most_allowed()}), ids {name_some(self._wrong_ids)}"
            )
        if self.wrong and self.native and not self._keeps_anchors:
            summary += "; give --keep-anchors if the collection was written with it"
        if self.native:
            summary += f"; {self.native:,} made by the new encoder itself were not compared"
        return Check.of("vectors", not self.wrong, summary, **self._figures())

    def _figures(self) -> dict[str, JsonValue]:
        counts = ("compared", "wrong", "native", "missing", "tolerance")
        worst = self.worst if np.isfinite(self.worst) else None
        return {**{name: getattr(self, name) for name in counts}, "worst": worst}

    def _most_allowed(self) -> str:
        description = self._target.describe()
        if description.lossy:
            return f"what {description.index_type} loses of each, at most {self._allowed:.1e}"
        return f"{self.tolerance:.1e}"

    def _fetch(self, batch: VectorBatch) -> VectorBatch:
        """Fetch the points that are there; the check of the ids is another's business."""
        parts = fetch_there(self._target, batch.ids)
        self.missing += len(batch) - sum(map(len, parts))
        if not parts:
            return batch.take(np.empty(0, np.intp))
        found = join_batches(parts)
        return found if self._several else found.with_one_vector()

    def _comparable(self, expected: VectorBatch, found: VectorBatch) -> NDArray[np.bool_]:
        """Tell whose vectors are to be translations, or anchors that were kept."""
        if found.payloads is None:
            return np.ones(len(found), np.bool_)
        kept = expected.each_payload()
        return np.array(
            [
                theirs.get(ORIGIN_FIELD) != ENCODED or ours.get(ORIGIN_FIELD) == ENCODED
                for ours, theirs in zip(kept, found.payloads, strict=True)
            ],
            np.bool_,
        )

    def _measure(self, expected: VectorBatch, found: VectorBatch) -> None:
        if self._several:
            # A point with more or fewer vectors than expected is wrong as a whole.
            as_many = np.array(expected.each_count()) == np.array(found.each_count())
            self._count_wrong(found.ids[~as_many])
            self.compared += int((~as_many).sum())
            self.worst = self.worst if as_many.all() else np.inf
            expected, found = (part.take(as_many).one_row_each() for part in (expected, found))
            if not len(expected):
                return
        off = distances(expected.vectors, found.vectors, cosine=self._cosine)
        # A NaN compares false: written so that it counts as wrong.
        allowed = allowed_of(self._target, expected.vectors, cosine=self._cosine, least=self._least)
        wrong = ~(off <= allowed)
        self._allowed = max(self._allowed, float(allowed.max()))
        self.compared += len(off)
        self.worst = max(self.worst, float(np.nan_to_num(off, nan=np.inf).max()))
        self._count_wrong(found.ids[wrong])

    def _count_wrong(self, ids: IdArray) -> None:
        self.wrong += len(ids)
        if len(self._wrong_ids) < _NAMED:
            self._wrong_ids += ids.tolist()[: _NAMED - len(self._wrong_ids)]


def tolerance_of(target: Source, least: float = TOLERANCE) -> float:
    """Return how far a vector of ``target`` may lie from what was written there."""
    return max(least, _ROUNDINGS * target.rounding())


def allowed_of(
    target: Source, vectors: Vectors, *, cosine: bool, least: float = TOLERANCE
) -> NDArray[np.floating]:
    """Return how far ``target`` may hold each of ``(n, d)`` vectors from itself, relatively.

    If its store encodes vectors, as far as it would do so now: of codes that are equally near
    it may have chosen another one before.
    """
    allowed = np.full(len(vectors), tolerance_of(target, least))
    if target.describe().lossy:
        coded = distances(vectors, target.as_stored(vectors), cosine=cosine)
        allowed = np.maximum(allowed, coded + least)
    return allowed


def _only(batch: VectorBatch, found: VectorBatch) -> VectorBatch:
    there = set(found.ids.tolist())
    return batch.take(np.array([i in there for i in batch.ids.tolist()], dtype=np.bool_))


CARRIED_TOLERANCE = 1e-6
"""How far a copied vector may be off, relative to its length: a store may normalise it again."""


class OtherVectors:
    """Compares the extras of points of the old collection with the new one's.

    Attributes
    ----------
    wanted
        True if there are some to compare, and both stores know them.
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
        """Return what was found; nothing if the old collection has no other vectors."""
        if not self._names and not self._unknown:
            return []
        names = ", ".join(map(repr, self._names))
        outcome, told = CheckResult.PASSED, []
        if self._wrong:
            outcome = CheckResult.FAILED
            told.append(
                f"{names} of {len(self._wrong):,} of {self._compared:,} points are not the "
                f"source's, ids {name_some(self._wrong[:_NAMED])}"
            )
        elif self._compared:
            told.append(f"{names} of {self._compared:,} points are the source's")
        elif self._names:
            outcome = CheckResult.SKIPPED
            told.append(f"{names} are not at the target")
        if self._unknown:
            outcome = CheckResult.FAILED if self._wrong else CheckResult.WARNING
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
    # What is read when it is looked into may know how to stay unread.
    without = getattr(extra, "without", None)
    if without is not None:
        rest: Extra = without(names)
        return rest
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
    return bool(np.linalg.norm(found - expected) <= CARRIED_TOLERANCE * np.linalg.norm(expected))
