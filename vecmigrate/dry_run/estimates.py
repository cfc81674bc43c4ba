"""From bought vectors to figures: imputes the truth and estimates everything on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.cost_curve import Pool, cost_curve
from vecmigrate.dry_run.labelled import (
    RelevantScores,
    compare_labelled,
    reembedded_metrics,
    reembedded_ranks,
)
from vecmigrate.dry_run.options import CUTOFFS
from vecmigrate.dry_run.probes import Probes
from vecmigrate.dry_run.purchases import informative
from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.dry_run.survey import Survey
from vecmigrate.dry_run.truth import Imputed, Known, TrueScores, impute
from vecmigrate.points.batch import IdArray
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import Cost, CostCurve, Estimate, LabelledMetric


@dataclass(frozen=True)
class Analysis:
    """Estimates on some probes of a survey.

    Attributes
    ----------
    rows
        The probes, as rows of ``probes`` and of the survey.
    orders
        ``(g, len(rows), depth)`` rankings under the refits.
    """

    probes: Probes
    rows: NDArray[np.intp]
    survey: Survey
    known: Known
    true: TrueScores
    truth: Truth
    orders: NDArray[np.intp]
    resampler: Resampler
    seed: int

    @classmethod
    def of(
        cls,
        probes: Probes,
        rows: NDArray[np.intp],
        survey: Survey,
        known: Known,
        metric: Metric,
        orders: NDArray[np.intp],
        seed: int,
    ) -> Analysis:
        """Impute the true scores of the probes at ``rows``."""
        rng = np.random.default_rng(seed)
        asked = [probes.asked[row] for row in rows]
        own = np.empty(len(rows), object)
        own[:] = [probe.own for probe in asked]
        candidates = survey.candidates.of(rows)
        true = TrueScores.of(known, probes.queries[rows], candidates, own, metric)
        old = None if survey.old is None else survey.old.ids[rows]
        shown = np.isfinite(true.candidates) & ~true.anchors
        shown &= ~informative(candidates.ids, old, asked)
        imputed = Imputed(
            scores=impute(candidates.scores, true.candidates, shown, rng),
            beyond=true.beyond,
            population=survey.population,
            known_share=min(1.0, len(known.ids) / survey.population),
        )
        truth = Truth.draw(imputed, CUTOFFS, rng)
        return cls(
            probes, rows, survey, known, true, truth, orders, Resampler(len(rows), seed), seed
        )

    def estimate(self, metric: Callable[[NDArray[np.intp] | None], PerDraw]) -> Estimate:
        """Estimate a metric of the ranking, with its interval."""
        return self.resampler.estimate(metric(None), self.refitted(metric))

    def refitted(self, metric: Callable[[NDArray[np.intp] | None], PerDraw]) -> NDArray[np.float64]:
        """``(g, probes)`` values of a metric under each refit, means over the draws."""
        return np.stack([metric(order).mean(axis=0) for order in self.orders])

    def recall_at(self) -> dict[int, Estimate]:
        """recall@k for every cut-off that the candidates are deep enough for."""
        return {
            k: self.estimate(lambda order, k=k: self.truth.recall(k, order))  # type: ignore[misc]
            for k in CUTOFFS
            if k in self.truth.thresholds and k <= self.truth.imputed.scores.shape[2]
        }

    def ndcg(self) -> Estimate:
        """nDCG@10."""
        return self.estimate(lambda order: self.truth.ndcg(10, order))

    def old_agreement(self) -> PerDraw | None:
        """Share of the ten nearest old points that are among the true ten nearest."""
        if self.survey.old is None:
            return None
        scores = self._true_scores(self.survey.old.ids[self.rows])
        hits = scores[None] >= self.truth.thresholds[10][..., None]
        agreement: PerDraw = hits.mean(axis=2)
        return agreement

    def labelled(self) -> list[LabelledMetric]:
        """Compare labelled metrics; empty where no probe here has labels."""
        which = [p for p, row in enumerate(self.rows) if self.probes.asked[row].relevant]
        if len(which) < 2:
            return []
        labels = [self.probes.asked[self.rows[p]].relevant for p in which]
        relevant = self._relevant_scores(which)
        rng = np.random.default_rng(self.seed)
        ranks = reembedded_ranks(self.truth, relevant, rng)
        local = RelevantScores(
            np.searchsorted(which, relevant.probe), relevant.gain, relevant.scores
        )
        ids = self.survey.candidates.ids[self.rows[which]]
        old = None if self.survey.old is None else self.survey.old.ids[self.rows[which]]
        return compare_labelled(
            labels,
            old,
            ids,
            [np.take_along_axis(ids, order, axis=1) for order in self.orders[:, which]],
            reembedded_metrics(ranks, local, labels),
            Resampler(len(which), self.seed),
        )

    def curve(
        self,
        metric: Metric,
        price: Callable[[float], Cost],
        order: str | None,
        target_recall: float | None,
    ) -> CostCurve:
        """The cost curve on these probes."""
        candidates = self.survey.candidates.of(self.rows)
        refits = self.refitted(lambda order: self.truth.recall(10, order))
        return cost_curve(
            Pool(
                truth=self.truth,
                translated=candidates.scores,
                anchors=self.true.anchors,
                anchors_beyond=self.true.beyond_rows < self.known.anchors,
                orders={
                    name: self.survey.share_before(name)[self.rows] for name in self.survey.values
                },
                anchor_share=self.known.anchors / self.survey.population,
            ),
            metric,
            price,
            self.resampler,
            refits,
            np.random.default_rng(self.seed),
            order=order,
            target_recall=target_recall,
        )

    def _true_scores(self, ids: IdArray) -> NDArray[np.float32]:
        """``(probes, n)`` true scores of known points, ``-inf`` where not known."""
        rows = self.known.rows_of(ids)
        scores = np.take_along_axis(self.true.all, np.maximum(rows, 0), axis=1)
        return np.where(rows >= 0, scores, np.float32(-np.inf))

    def _relevant_scores(self, which: list[int]) -> RelevantScores:
        probe: list[int] = []
        gain: list[float] = []
        scores = []
        for p in which:
            ids = self.survey.candidates.ids[self.rows[p]]
            for point, worth in self.probes.asked[self.rows[p]].relevant.items():
                row = int(self.known.rows_of(_single(point))[0])
                at = np.flatnonzero(ids == point)
                if row >= 0:
                    drawn = np.full(len(self.truth.imputed.scores), self.true.all[p, row])
                elif len(at):
                    drawn = self.truth.imputed.scores[:, p, at[0]]
                else:
                    drawn = np.full(len(self.truth.imputed.scores), -np.inf)
                probe.append(p)
                gain.append(worth)
                scores.append(drawn)
        return RelevantScores(
            np.array(probe, np.intp),
            np.array(gain),
            np.stack(scores, axis=1).astype(np.float32),
        )


def _single(point: int | str) -> IdArray:
    array = np.empty(1, object)
    array[0] = point
    return array
