"""Looks at every vector of a collection as it streams by: finite, of the right length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from vecmigrate.points.batch import UNIT_TOLERANCE, PointId, VectorBatch, row_norms
from vecmigrate.points.ids import name_some
from vecmigrate.verification.records import Check

_NAMED = 10


class Soundness:
    """Counts vectors that no search can use, and those that are not of unit length."""

    def __init__(self) -> None:
        self.not_finite = 0
        self.zero = 0
        self.not_unit = 0
        self.shortest, self.longest = np.inf, 0.0
        self._unusable_ids: list[PointId] = []
        self._not_unit_ids: list[PointId] = []

    def usable(self, batches: Iterable[VectorBatch]) -> Iterator[VectorBatch]:
        """Yield the batches without their unusable vectors, which are counted."""
        for batch in batches:
            norms = row_norms(batch.vectors)
            finite = np.isfinite(norms)
            good = finite & (norms > 0)
            if not good.all():
                self.not_finite += int((~finite).sum())
                self.zero += int((norms == 0).sum())
                _remember(self._unusable_ids, batch, ~good)
                if not good.any():
                    continue
                batch, norms = batch.take(good), norms[good]
            self.shortest = min(self.shortest, float(norms.min()))
            self.longest = max(self.longest, float(norms.max()))
            off = np.abs(norms - 1) > UNIT_TOLERANCE
            if off.any():
                self.not_unit += int(off.sum())
                _remember(self._not_unit_ids, batch, off)
            yield batch

    def checks(self, *, unit: bool) -> list[Check]:
        """Return what was found.

        Parameters
        ----------
        unit
            True if every vector is to have unit length.
        """
        unusable = self.not_finite + self.zero
        summary = "no NaN, infinite or zero vector"
        if unusable:
            summary = (
                f"{self.not_finite:,} NaN or infinite and {self.zero:,} zero vectors, "
                f"ids {name_some(self._unusable_ids)}"
            )
        counts = {"not_finite": self.not_finite, "zero": self.zero}
        return [Check.of("finite", not unusable, summary, **counts), self._norms(unit)]

    def _norms(self, unit: bool) -> Check:
        if self.longest == 0:
            return Check.skipped("norms", "there is no vector")
        lengths = f"lengths from {self.shortest:.4g} to {self.longest:.4g}"
        failed = unit and self.not_unit > 0
        if failed:
            lengths = (
                f"{self.not_unit:,} vectors are not of unit length, as they are to be "
                f"({lengths}), ids {name_some(self._not_unit_ids)}"
            )
        figures = {"shortest": self.shortest, "longest": self.longest, "not_unit": self.not_unit}
        return Check.of("norms", not failed, lengths, **figures, unit_expected=unit)


def _remember(names: list[PointId], batch: VectorBatch, rows: np.ndarray) -> None:
    names += batch.ids[rows].tolist()[: _NAMED - len(names)] if len(names) < _NAMED else []
