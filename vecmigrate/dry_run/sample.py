"""The uniform sample of the corpus that a dry run leans on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.ids import lookup_of


@dataclass(frozen=True, slots=True)
class Sample:
    """Points in random order, none of them an anchor, with their texts.

    Attributes
    ----------
    anchors_excluded
        Points left out for being anchors.
    """

    points: VectorBatch
    texts: list[str | None]
    anchors_excluded: int = 0

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def without_anchors(
        cls, points: VectorBatch, texts: Sequence[str | None], anchors: IdArray
    ) -> Sample:
        """Leave anchors out."""
        kept = np.flatnonzero(lookup_of(anchors).rows(points.ids) < 0)
        return cls(points.take(kept), [texts[i] for i in kept.tolist()], len(points) - len(kept))

    def usable(self, *, needs_texts: bool) -> Sample:
        """Those that can be embedded."""
        return self._take([i for i, t in enumerate(self.texts) if t or not needs_texts])

    def first_usable(self, count: int, *, needs_texts: bool) -> Sample:
        """The first ``count`` of those that can be embedded."""
        usable = self.usable(needs_texts=needs_texts)
        return usable._take(range(min(count, len(usable))))

    def without(self, others: Sample) -> Sample:
        """The points that are not among ``others``."""
        taken = lookup_of(others.points.ids).rows(self.points.ids) >= 0
        return self._take(np.flatnonzero(~taken).tolist())

    def _take(self, rows: Sequence[int]) -> Sample:
        points = self.points.take(np.array(rows, np.intp))
        return Sample(points, [self.texts[i] for i in rows], self.anchors_excluded)
