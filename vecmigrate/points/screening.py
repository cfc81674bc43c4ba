"""Vectors that no map can use: NaN, infinite, or of zero length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vecmigrate.errors import BadVectorError
from vecmigrate.points.batch import PointId, VectorBatch, row_norms
from vecmigrate.points.ids import name_some


class Absent(StrEnum):
    """What a point without a vector is to a target."""

    BAD = "bad"
    """One that it cannot hold; it counts as one with a bad vector."""
    WRITTEN = "written"
    """A point with what else it has."""
    PASSED_OVER = "passed over"
    """Nothing to be done."""


class OnBadVector(StrEnum):
    """What to do with a bad vector."""

    FAIL = "fail"
    SKIP = "skip"


BadVectorPolicy: TypeAlias = Annotated[
    OnBadVector, Field(description="NaN, infinite or zero vectors: refuse, or leave out.")
]
"""The option that says so."""


@dataclass(slots=True)
class Skipped:
    """Ids left out so far, and how many of each kind.

    Attributes
    ----------
    as_read
        Hashes of what was read of a point, see :func:`source_hashes`, where they are known.
    """

    ids: list[PointId] = field(default_factory=list)
    as_read: dict[PointId, tuple[int, int]] = field(default_factory=dict)
    not_finite: int = 0
    zero: int = 0
    absent: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, points: VectorBatch) -> None:
        """Note points that are left out for want of a text."""
        ids = points.ids.tolist()
        self.ids += ids
        if points.read_hashes is not None:
            hashes = map(tuple, points.read_hashes.tolist())
            self.as_read.update(zip(ids, hashes, strict=True))


def screen(
    batches: Iterable[VectorBatch],
    where: str,
    policy: OnBadVector,
    skipped: Skipped,
    *,
    absent: Absent = Absent.BAD,
) -> Iterator[VectorBatch]:
    """Yield batches without bad vectors; ``skipped`` gathers what was left out.

    A point is as good as its worst vector; of one without any, the target says what it is.

    Raises
    ------
    BadVectorError
        On the first batch with a bad vector, under :attr:`OnBadVector.FAIL`; names up to 10 ids.
    """
    for batch in _without_absent(batches) if absent is Absent.PASSED_OVER else batches:
        norms = row_norms(batch.vectors)
        not_finite = _any_of(batch, ~np.isfinite(norms))
        zero = _any_of(batch, norms == 0)
        missing = np.zeros(len(batch), np.bool_)
        if absent is Absent.BAD and batch.counts is not None:
            missing = batch.counts == 0
        good = ~(not_finite | zero | missing)
        if good.all():
            yield batch
            continue
        bad = batch.ids[~good].tolist()
        if policy is OnBadVector.FAIL:
            kind = "zero" if zero.any() else "missing"
            if not_finite.any():
                kind = "NaN or infinite"
            raise BadVectorError(
                f"{where}: {kind} vectors, ids {name_some(bad)}",
                remedy="Mend or delete these points, or leave them out with --on-bad-vector skip.",
            )
        skipped.ids += bad
        skipped.not_finite += int(not_finite.sum())
        skipped.zero += int(zero.sum())
        skipped.absent += int(missing.sum())
        if good.any():
            yield batch.take(good)


def _without_absent(batches: Iterable[VectorBatch]) -> Iterator[VectorBatch]:
    for batch in batches:
        there = batch if batch.counts is None else batch.take(batch.counts > 0)
        if len(there):
            yield there


def _any_of(batch: VectorBatch, vectors: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which points have a vector of which this is true."""
    if batch.counts is None:
        return vectors
    return np.bincount(batch.owners(), weights=vectors, minlength=len(batch)) > 0
