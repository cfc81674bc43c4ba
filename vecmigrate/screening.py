"""Vectors that no map can use: NaN, infinite, or of zero length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from vecmigrate.batches import PointId, VectorBatch
from vecmigrate.errors import BadVectorError
from vecmigrate.norms import row_norms
from vecmigrate.wording import name_some


class OnBadVector(StrEnum):
    """What to do with a bad vector."""

    FAIL = "fail"
    SKIP = "skip"


@dataclass(slots=True)
class Skipped:
    """Ids left out so far, and how many of each kind."""

    ids: list[PointId] = field(default_factory=list)
    not_finite: int = 0
    zero: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def screen(
    batches: Iterable[VectorBatch], where: str, policy: OnBadVector, skipped: Skipped
) -> Iterator[VectorBatch]:
    """Yield batches without bad vectors; ``skipped`` gathers what was left out.

    Raises
    ------
    BadVectorError
        On the first batch with a bad vector, under :attr:`OnBadVector.FAIL`; names up to 10 ids.
    """
    for batch in batches:
        norms = row_norms(batch.vectors)
        finite = np.isfinite(norms)
        good = finite & (norms > 0)
        if good.all():
            yield batch
            continue
        bad = batch.ids[~good].tolist()
        if policy is OnBadVector.FAIL:
            kind = "NaN or infinite" if not finite.all() else "zero"
            raise BadVectorError(
                f"{where}: {kind} vectors, ids {name_some(bad)}",
                remedy="Mend or delete these points, or leave them out with --on-bad-vector skip.",
            )
        skipped.ids += bad
        skipped.not_finite += int((~finite).sum())
        skipped.zero += int((norms == 0).sum())
        if good.any():
            yield batch.take(good)
