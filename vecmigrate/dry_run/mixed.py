"""A collection of which a share is re-embedded, and the rest translated on one scale of scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.labelled import NOT_FOUND, RelevantScores
from vecmigrate.dry_run.resampling import PerDraw
from vecmigrate.dry_run.survey import Column
from vecmigrate.evaluation.search import greatest
from vecmigrate.points.collection import Metric

RANDOM = "random"

Places = NDArray[np.floating]
"""Of each candidate, the share of the corpus that an order puts before."""


@dataclass(frozen=True)
class Orders:
    """In which orders points are re-embedded, anchors first.

    Attributes
    ----------
    of_candidates
        By order, ``(probes, m)``.
    beyond
        ``(draws, probes, e)``, of ``imputed.beyond``, whose places no order tells.
    """

    of_candidates: Mapping[str, Places]
    beyond: Places

    @classmethod
    def of(cls, analysis: Analysis) -> Orders:
        """Look up every order that the survey has, and draw a random one."""
        rng = np.random.default_rng(analysis.seed)
        survey, imputed = analysis.measured.survey, analysis.truth.imputed
        known = {name: survey.share_before(name)[analysis.rows] for name in survey.values}
        return cls(
            of_candidates={**known, RANDOM: rng.random(imputed.scores.shape)},
            beyond=rng.random((len(imputed.scores), *imputed.beyond.shape)),
        )


@dataclass(frozen=True)
class Mixture:
    """The collection with this share re-embedded in this order."""

    analysis: Analysis
    metric: Metric
    orders: Orders
    order: str
    share: float

    @property
    def rest(self) -> float:
        """Share of what is no anchor that is re-embedded."""
        anchors = self.analysis.anchor_share
        return max(0.0, self.share - anchors) / max(1 - anchors, 1e-12)

    @cached_property
    def _scores(self) -> NDArray[np.float32]:
        """``(draws, probes, m + e)``: what candidates and known others score here."""
        analysis, imputed = self.analysis, self.analysis.truth.imputed
        with_anchors = self.share >= analysis.anchor_share > 0
        before = self.orders.of_candidates[self.order]
        fresh = np.where(analysis.true.anchors, with_anchors, before < self.rest)
        is_anchor = analysis.true.beyond_rows < analysis.measured.known.anchors
        fresh_beyond = np.where(is_anchor, with_anchors, self.orders.beyond < self.rest)
        here = np.where(fresh, imputed.scores, self._translated)
        return np.concatenate([here, np.where(fresh_beyond, imputed.beyond, -np.inf)], axis=2)

    @cached_property
    def _translated(self) -> Column:
        """Translated scores as they count beside true ones, see :func:`mixing_scale`."""
        scores, scale = self.analysis.candidates.scores, self.analysis.measured.mixing_scale
        if self.metric is Metric.MANHATTAN:
            return scores
        # Squared distances of unit vectors are 2 - 2 cos.
        shift = 2.0 if self.metric is Metric.EUCLID else 0.0
        return np.asarray(scale * (scores + shift) - shift, np.float32)

    def _hits(self, k: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """``(draws, probes, k)``: which results are among the true k nearest; unseen ones found."""
        truth = self.analysis.truth
        beyond = np.broadcast_to(
            truth.imputed.beyond, (len(self._scores), *truth.imputed.beyond.shape)
        )
        truly = np.concatenate([truth.imputed.scores, beyond], axis=2)
        first = greatest(self._scores, k)
        first = np.take_along_axis(
            first, np.argsort(-np.take_along_axis(self._scores, first, axis=2), axis=2), axis=2
        )
        hits = np.take_along_axis(truly, first, axis=2) >= truth.thresholds[k][..., None]
        hits &= np.isfinite(np.take_along_axis(self._scores, first, axis=2))
        return hits, self._rng(k).binomial(truth.unseen[k], self.rest)

    def _rng(self, purpose: int) -> np.random.Generator:
        """Draws which of the unseen points are re-embedded: the same for the same figure."""
        return np.random.default_rng([self.analysis.seed, round(1000 * self.share), purpose])

    def recall(self, k: int) -> PerDraw:
        """Recall@k."""
        hits, unseen = self._hits(k)
        recall: PerDraw = np.minimum((hits.sum(axis=2) + unseen) / k, 1)
        return recall

    def ndcg(self, k: int) -> PerDraw:
        """nDCG@k, the true k nearest being the relevant ones; unseen ones stand anywhere."""
        discounts = 1 / np.log2(np.arange(2, k + 2))
        hits, unseen = self._hits(k)
        gained: PerDraw = (hits @ discounts + unseen * discounts.mean()) / discounts.sum()
        return np.minimum(gained, 1)

    def ranks(self, relevant: RelevantScores, cutoff: int) -> NDArray[np.intp]:
        """``(draws, pairs)``: each labelled document's rank, ``NOT_FOUND`` if it has none.

        Parameters
        ----------
        cutoff
            Ranks are right up to here.
        """
        analysis, scores = self.analysis, self._scores
        unseen, depth = analysis.truth.unseen[cutoff], analysis.candidates.scores.shape[1]
        ranks = np.full(relevant.scores.shape, NOT_FOUND, np.intp)
        rng = self._rng(0)
        pairs = zip(relevant.probe, relevant.column, relevant.row, strict=True)
        for pair, (probe, column, row) in enumerate(pairs):
            if column < 0:
                beyond = np.flatnonzero(analysis.true.beyond_rows[probe] == row)
                if row < 0 or not len(beyond):
                    continue
                column = depth + int(beyond[0])
            own = scores[:, probe, column]
            above = (scores[:, probe] > own[:, None]).sum(axis=1)
            share = self.rest * np.minimum(above + 1, cutoff) / cutoff
            place = 1 + above + rng.binomial(unseen[:, probe], share)
            ranks[:, pair] = np.where(np.isfinite(own), place, NOT_FOUND)
        return ranks
