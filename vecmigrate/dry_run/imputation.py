r"""True scores that nobody paid for, drawn from what the paid ones show.

A probe's candidates are known by their translated score z; their true score s, under the new
encoder's own vector, is known for those re-embedded. For the others s is imputed several times
(multiple imputation, Rubin 1987): :math:`s = z + \delta` with :math:`\delta` drawn from the
differences seen, over all probes, at the same translated rank. Every metric is then computed on
whole lists, and its mean over the draws is the estimate.

True neighbours beyond the candidates are counted, not named: how many there are falls from one
doubling of the rank to the next, and the fall over the last two doublings is carried on to the end
of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.candidates import Column

DRAWS = 10

RANK_EDGES = (0, 10, 20, 40, 80, 160, 320, 640)
"""Candidates of one stretch of ranks share their differences."""

DEEPEST_CUTOFF = 100
"""The greatest k of recall@k."""


@dataclass(frozen=True, slots=True)
class Imputed:
    """Complete true scores, several times over.

    Attributes
    ----------
    scores
        ``(draws, probes, m)`` float32: the candidates', in the order of their translated rank.
    beyond
        ``(probes, e)`` float32: known true scores of points that are no candidates; ``-inf`` pads.
    population
        Points in the corpus.
    known_share
        Share of the points beyond the candidates whose true score is known.
    """

    scores: NDArray[np.float32]
    beyond: Column
    population: int
    known_share: float

    def best(self, k: int) -> NDArray[np.float32]:
        """The ``(draws, probes, k)`` greatest true scores that are known or imputed, best first."""
        draws = len(self.scores)
        beyond = np.broadcast_to(self.beyond, (draws, *self.beyond.shape))
        everything = np.concatenate([self.scores, beyond], axis=2)
        k = min(k, everything.shape[2])
        top = -np.partition(-everything, k - 1, axis=2)[:, :, :k]
        return -np.sort(-top, axis=2)

    def beyond_rate(self, k: int, threshold: NDArray[np.float32]) -> float:
        """Expected true k nearest of a probe that lie unseen beyond its candidates.

        ``threshold`` is the ``(draws, probes)`` true score of the k-th nearest among those seen.
        """
        depth = self.scores.shape[2]
        if depth >= self.population:
            return 0.0
        inside = self.scores >= threshold[..., None]
        per_probe = inside.sum(axis=(0, 1)) / inside[..., 0].size
        half, quarter = depth // 2, depth // 4
        last, before = per_probe[half:].sum(), per_probe[quarter:half].sum()
        if before == 0:
            return 0.0
        fall = min(last / before, 0.9)
        doublings = np.log2(self.population / depth)
        rate = last * fall * (1 - fall**doublings) / (1 - fall)
        return float(rate * (1 - self.known_share))


def impute(
    translated: Column,
    true: Column,
    shown: NDArray[np.bool_],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> NDArray[np.float32]:
    """Return ``(draws, probes, m)`` true scores.

    Parameters
    ----------
    translated
        ``(probes, m)`` scores, best first.
    true
        ``(probes, m)`` true scores, NaN where unknown.
    shown
        ``(probes, m)``: which known ones are like the unknown ones at their rank. Anchors are not,
        nor what was bought for another reason than its rank.
    """
    unknown = np.isnan(true)
    filled = np.repeat(true[None], draws, axis=0)
    depth = translated.shape[1]
    differences = true - translated
    fallback = differences[shown & ~unknown]
    edges = [*(e for e in RANK_EDGES if e < depth), depth]
    for start, end in pairwise(edges):
        columns = slice(start, end)
        gaps = unknown[:, columns]
        if not gaps.any():
            continue
        seen = differences[:, columns][shown[:, columns] & ~gaps]
        pool = seen if len(seen) else fallback
        if not len(pool):
            pool = np.zeros(1, np.float32)
        drawn = rng.choice(pool, size=(draws, int(gaps.sum())))
        filled[:, :, columns][:, gaps] = translated[:, columns][gaps] + drawn
    # No point is nearer than what is no candidate at all.
    filled[:, np.isneginf(translated)] = -np.inf
    return filled
