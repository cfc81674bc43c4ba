"""From bought vectors to figures: imputes the truth and estimates everything on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.dry_run.options import CUTOFFS
from vecmigrate.dry_run.probes import Asked, Choice, Probes, Role
from vecmigrate.dry_run.purchases import informative
from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.survey import Candidates, Survey
from vecmigrate.dry_run.truth import Imputed, Known, TrueScores, impute
from vecmigrate.points.batch import IdArray
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import EncoderCheck, Estimate
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
    mixing_scale
        What translated scores are multiplied by beside true ones, as a migration does.
    candidates
        The table that the translator was chosen from.
    bought
        The part of ``sample`` that was re-embedded for its own sake.
    choice
        The probes that were encoded; ``probes`` are those that the budget covers.
    drawn
        See :class:`Purchases`.
    translating_seconds
        How long the pass over the corpus took.
    orders
        See :func:`refit_orders`; of all probes.
    """

    tokens_per_text: float
    anchors: AnchorSet
    sample: Sample
    translator: Translator
    mixing_scale: float
    candidates: list[CandidateScore]
    check: EncoderCheck | None
    bought: Sample
    choice: Choice
    probes: Probes
    survey: Survey
    known: Known
    drawn: NDArray[np.bool_]
    translating_seconds: float
    orders: NDArray[np.intp]

    def is_uniform(self, ids: IdArray) -> NDArray[np.bool_]:
        """Tell which documents of any shape the uniform sample has brought."""
        rows = self.known.rows_of(ids)
        anchors = self.known.anchors
        return (rows >= anchors) & (rows < anchors + len(self.bought))


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
        drawn = measured.drawn[rows] | measured.is_uniform(candidates.ids)
        traits = [survey.share_before(name)[rows] - 0.5 for name in survey.values]
        imputed = Imputed(
            scores=impute(candidates.scores, true.candidates, shown, drawn, traits, rng),
            beyond=true.beyond,
            population=survey.population,
            known_share=min(1.0, len(known.ids) / survey.population),
        )
        truth = Truth.draw(imputed, CUTOFFS, rng)
        resampler = Resampler(len(rows), seed)
        orders = measured.orders[:, rows]
        return cls(measured, rows, asked, candidates, old, orders, true, truth, resampler, seed)

    @property
    def anchor_share(self) -> float:
        """Share of the corpus that is anchors."""
        return self.measured.known.anchors / self.measured.survey.population

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
