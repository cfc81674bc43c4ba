"""Metrics of a ranking against the imputed truth, for each draw and probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.imputation import DEEPEST_CUTOFF, Imputed

SETTLING = 4

DOUBT = 2.0
"""The number of unseen points is known within this factor."""

PerDraw = NDArray[np.float64]
"""``(draws, probes)``; one draw where nothing was imputed."""


@dataclass(frozen=True)
class Truth:
    """Where the true k nearest begin, draw by draw.

    Attributes
    ----------
    imputed
        The scores.
    thresholds
        By k, ``(draws, probes)``: the least true score of the k nearest, unseen ones reckoned with.
    unseen
        By k, ``(draws, probes)``: how many of the k nearest were not seen.
    """

    imputed: Imputed
    thresholds: Mapping[int, NDArray[np.float32]]
    unseen: Mapping[int, NDArray[np.intp]]

    @classmethod
    def draw(cls, imputed: Imputed, cutoffs: Sequence[int], rng: np.random.Generator) -> Truth:
        """Draw how many of the k nearest lie beyond the candidates, for each k."""
        best = imputed.best(DEEPEST_CUTOFF)
        thresholds, unseen = {}, {}
        for k in cutoffs:
            if k > best.shape[2]:
                continue
            rate = 0.0
            # The more are unseen, the fewer of those seen are among the k nearest.
            for _ in range(SETTLING):
                rate = imputed.beyond_rate(best[:, :, max(0, k - 1 - round(rate))])
            doubt = DOUBT ** rng.uniform(-1, 1, (len(best), 1))
            missing = np.minimum(rng.poisson(rate * doubt, best.shape[:2]), k)
            padded = np.concatenate([np.full_like(best[:, :, :1], np.inf), best], axis=2)
            at = np.take_along_axis(padded, (k - missing)[..., None], axis=2)
            thresholds[k], unseen[k] = at[..., 0], missing
        return cls(imputed, thresholds, unseen)

    def hits(self, k: int, order: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
        """Tell for the first ``k`` of each ranking which are among the true k nearest.

        Parameters
        ----------
        order
            ``(probes, >= k)`` candidates by rank; the translated collection's own where None.

        Returns
        -------
        ``(draws, probes, k)``
        """
        scores = self.imputed.scores
        if order is None:
            first = scores[:, :, :k]
        else:
            first = np.take_along_axis(scores, order[None, :, :k], axis=2)
        return first >= self.thresholds[k][..., None]

    def recall(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """Recall@k."""
        recall: PerDraw = self.hits(k, order).mean(axis=2)
        return recall

    def ndcg(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """nDCG@k, the true k nearest being the relevant ones."""
        discounts = 1 / np.log2(np.arange(2, k + 2))
        gained: PerDraw = self.hits(k, order) @ discounts / discounts.sum()
        return gained
