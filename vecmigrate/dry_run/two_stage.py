"""Searching a translated collection in two stages: the best candidates, ranked by true scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.accumulation import different_documents
from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.labelled import NOT_FOUND, RelevantScores
from vecmigrate.dry_run.resampling import PerDraw
from vecmigrate.report.schema import Estimate


@dataclass(frozen=True, slots=True)
class TwoStages:
    """The first ``depth`` translated results of each probe, ranked anew by their true scores."""

    analysis: Analysis
    depth: int

    def recall(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """Recall@k: all of the true k nearest among the candidates are found.

        Parameters
        ----------
        order
            ``(probes, m)`` candidates by rank; the translated collection's own if None.
        """
        recall: PerDraw = self._found(k, order) / k
        return recall

    def ndcg(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """nDCG@k, the true k nearest being the relevant ones: those found stand first."""
        discounts = 1 / np.log2(np.arange(2, k + 2))
        gained = np.concatenate([[0.0], np.cumsum(discounts)])
        found: PerDraw = gained[self._found(k, order)] / gained[-1]
        return found

    def _found(self, k: int, order: NDArray[np.intp] | None) -> NDArray[np.intp]:
        scores = self._scores(k, order)
        inside = scores >= self.analysis.truth.thresholds[k][..., None]
        found: NDArray[np.intp] = np.minimum(inside.sum(axis=2), k)
        return found

    def _scores(self, k: int, order: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """``(draws, probes, m)`` true scores of the candidates."""
        scores, depth = self.analysis.truth.imputed.scores, max(self.depth, k)
        if order is None:
            return scores[:, :, :depth]
        return np.take_along_axis(scores, order[None, :, :depth], axis=2)

    def ranks(
        self, relevant: RelevantScores, order: NDArray[np.intp] | None = None
    ) -> NDArray[np.intp]:
        """``(draws, pairs)``: each labelled document's rank, ``NOT_FOUND`` if no candidate."""
        ranks = np.full(relevant.scores.shape, NOT_FOUND, np.intp)
        scores = self._scores(0, order)
        for pair, (probe, column) in enumerate(zip(relevant.probe, relevant.column, strict=True)):
            first = np.arange(self.depth) if order is None else order[probe, : self.depth]
            if column >= 0 and column in first:
                above = scores[:, probe] > relevant.scores[:, pair, None]
                ranks[:, pair] = 1 + above.sum(axis=1)
        return ranks

    def texts_of(self, queries: int) -> Estimate:
        """Estimate the texts that ``queries`` queries have embedded, each text once.

        Anchors' vectors are there already.
        """
        analysis, depth = self.analysis, self.depth
        ids = analysis.candidates.ids[:, :depth]
        there = np.isfinite(analysis.candidates.scores[:, :depth])
        fresh = there & ~analysis.true.anchors[:, :depth]
        numbers: dict[object, int] = {}
        met = np.full(ids.shape, -1, np.intp)
        for row, column in np.argwhere(fresh):
            met[row, column] = numbers.setdefault(ids[row, column], len(numbers))
        known, population = analysis.measured.known, analysis.measured.survey.population
        return different_documents(met, queries, population - known.anchors)
