"""From bought vectors to figures: imputes the truth and estimates everything on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.dry_run.cost_curve import Pool, cost_curve
from vecmigrate.dry_run.labelled import (
    RelevantScores,
    compare_labelled,
    reembedded_metrics,
    reembedded_ranks,
)
from vecmigrate.dry_run.options import CUTOFFS, MeasureOptions
from vecmigrate.dry_run.probes import Asked, Choice, Probes, Role
from vecmigrate.dry_run.purchases import informative
from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.survey import Candidates, Survey
from vecmigrate.dry_run.truth import Imputed, Known, TrueScores, impute
from vecmigrate.encoders.metered import Cost
from vecmigrate.points.batch import IdArray, id_array
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import CostCurve, EncoderCheck, Estimate, LabelledMetric
from vecmigrate.translators import Translator
from vecmigrate.translators.fit import CandidateScore


@dataclass(frozen=True)
class Measured:
    """What the stages of a dry run brought.

    Attributes
    ----------
    tokens_per_text
        Mean of the uniform sample.
    sample
        The uniform sample without anchors.
    anchors_excluded
        Its points that were left out for being anchors.
    candidates
        The table that the translator was chosen from.
    bought
        The part of ``sample`` that was re-embedded for its own sake.
    choice
        The probes that were encoded; ``probes`` are those that the budget covers.
    orders
        See :func:`refit_orders`; of all probes.
    """

    tokens_per_text: float
    anchors: AnchorSet
    sample: Sample
    anchors_excluded: int
    translator: Translator
    candidates: list[CandidateScore]
    check: EncoderCheck | None
    bought: Sample
    choice: Choice
    probes: Probes
    survey: Survey
    known: Known
    orders: NDArray[np.intp]


@dataclass(frozen=True)
class Analysis:
    """Estimates on some probes.

    Attributes
    ----------
    rows
        The probes, as rows of ``measured.probes`` and of the survey.
    asked, candidates, old, orders
        Of these probes.
    """

    measured: Measured
    rows: NDArray[np.intp]
    asked: list[Asked]
    candidates: Candidates
    old: IdArray | None
    orders: NDArray[np.intp]
    true: TrueScores
    truth: Truth
    resampler: Resampler
    seed: int

    @classmethod
    def of(cls, measured: Measured, metric: Metric, seed: int, *roles: Role) -> Analysis:
        """Impute the true scores of the probes of these roles."""
        rng = np.random.default_rng(seed)
        probes, survey, known = measured.probes, measured.survey, measured.known
        rows = probes.rows(*roles)
        asked = [probes.asked[row] for row in rows]
        candidates = survey.candidates.of(rows)
        own = [probe.own for probe in asked]
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
        resampler = Resampler(len(rows), seed)
        orders = measured.orders[:, rows]
        return cls(measured, rows, asked, candidates, old, orders, true, truth, resampler, seed)

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
        if self.old is None:
            return None
        rows = self.measured.known.rows_of(self.old)
        scores = np.take_along_axis(self.true.all, np.maximum(rows, 0), axis=1)
        scores = np.where(rows >= 0, scores, np.float32(-np.inf))
        hits = scores[None] >= self.truth.thresholds[10][..., None]
        agreement: PerDraw = hits.mean(axis=2)
        return agreement

    def labelled(self) -> list[LabelledMetric]:
        """Compare labelled metrics; empty if no probe here has labels."""
        which = [p for p, probe in enumerate(self.asked) if probe.relevant]
        if len(which) < 2:
            return []
        relevant = self._relevant_scores(which)
        ranks = reembedded_ranks(self.truth, relevant, np.random.default_rng(self.seed))
        labels = [self.asked[p].relevant for p in which]
        places = replace(relevant, probe=np.searchsorted(which, relevant.probe))
        ids = self.candidates.ids[which]
        return compare_labelled(
            labels,
            None if self.old is None else self.old[which],
            ids,
            [np.take_along_axis(ids, order, axis=1) for order in self.orders[:, which]],
            reembedded_metrics(ranks, places, labels),
            Resampler(len(which), self.seed),
        )

    def curve(
        self, metric: Metric, price: Callable[[float], Cost], options: MeasureOptions
    ) -> CostCurve:
        """The cost curve on these probes."""
        survey, anchors = self.measured.survey, self.measured.known.anchors
        pool = Pool(
            truth=self.truth,
            translated=self.candidates.scores,
            anchors=self.true.anchors,
            anchors_beyond=self.true.beyond_rows < anchors,
            orders={name: survey.share_before(name)[self.rows] for name in survey.values},
            anchor_share=anchors / survey.population,
        )
        return cost_curve(
            pool,
            metric,
            price,
            self.resampler,
            self.refitted(lambda order: self.truth.recall(10, order)),
            np.random.default_rng(self.seed),
            order=options.curve_order,
            target_recall=options.target_recall,
        )

    def _relevant_scores(self, which: list[int]) -> RelevantScores:
        pairs = [(p, point, gain) for p in which for point, gain in self.asked[p].relevant.items()]
        known = self.measured.known.rows_of(id_array(point for _, point, _ in pairs))
        imputed = self.truth.imputed.scores
        scores = np.full((len(imputed), len(pairs)), -np.inf, np.float32)
        for pair, ((p, point, _), row) in enumerate(zip(pairs, known.tolist(), strict=True)):
            at = np.flatnonzero(self.candidates.ids[p] == point)
            if row >= 0:
                scores[:, pair] = self.true.all[p, row]
            elif len(at):
                scores[:, pair] = imputed[:, p, at[0]]
        return RelevantScores(
            np.array([p for p, _, _ in pairs], np.intp), np.array([g for _, _, g in pairs]), scores
        )
