"""Labelled metrics of the old, the translated and the fully re-embedded collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.evaluation.metrics import (
    Labels,
    ideal_discounted_gain,
    labelled_recall,
    ndcg,
    reciprocal_rank,
)
from vecmigrate.points.batch import IdArray, id_array
from vecmigrate.report.schema import LabelledMetric

CUTOFF = 10
NOT_FOUND = 1 << 30
"""A rank behind all."""

LABELLED: dict[str, Callable[[IdArray, Labels, int], NDArray[np.float64]]] = {
    f"recall@{CUTOFF}": labelled_recall,
    f"MRR@{CUTOFF}": reciprocal_rank,
    f"nDCG@{CUTOFF}": ndcg,
}


@dataclass(frozen=True, slots=True)
class RelevantScores:
    """True scores of labelled documents.

    Attributes
    ----------
    probe
        ``(pairs,)``: whose label each is.
    gain
        ``(pairs,)``.
    scores
        ``(draws, pairs)``; ``-inf`` if neither known nor a candidate.
    column, row
        ``(pairs,)``: the document's place among the probe's candidates and among known documents,
        -1 if it has none.
    """

    probe: NDArray[np.intp]
    gain: NDArray[np.float64]
    scores: NDArray[np.float32]
    column: NDArray[np.intp]
    row: NDArray[np.intp]

    @classmethod
    def of(cls, analysis: Analysis, which: Sequence[int]) -> RelevantScores:
        """Look up the labelled documents of these probes."""
        pairs = [(p, i, gain) for p in which for i, gain in analysis.asked[p].relevant.items()]
        rows = analysis.measured.known.rows_of(id_array(point for _, point, _ in pairs))
        imputed = analysis.truth.imputed.scores
        scores = np.full((len(imputed), len(pairs)), -np.inf, np.float32)
        columns = np.full(len(pairs), -1, np.intp)
        for pair, ((p, point, _), row) in enumerate(zip(pairs, rows.tolist(), strict=True)):
            at = np.flatnonzero(analysis.candidates.ids[p] == point)
            if len(at) and np.isfinite(analysis.candidates.scores[p, at[0]]):
                columns[pair] = at[0]
            if row >= 0:
                scores[:, pair] = analysis.true.all[p, row]
            elif columns[pair] >= 0:
                scores[:, pair] = imputed[:, p, at[0]]
        probes, gains = (np.array([pair[part] for pair in pairs]) for part in (0, 2))
        return cls(probes.astype(np.intp), gains.astype(np.float64), scores, columns, rows)


def reembedded_ranks(
    truth: Truth, relevant: RelevantScores, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return ``(draws, pairs)``: each labelled document's rank under full re-embedding.

    Of the unseen points among the true nearest, each is as likely at any of their ranks.
    """
    scores, beyond = truth.imputed.scores, truth.imputed.beyond
    unseen = truth.unseen[CUTOFF]
    ranks = np.empty(relevant.scores.shape, np.intp)
    for pair, probe in enumerate(relevant.probe):
        own = relevant.scores[:, pair]
        above = (scores[:, probe] > own[:, None]).sum(axis=1)
        above += (beyond[probe][None] > own[:, None]).sum(axis=1)
        share = np.minimum(above + 1, CUTOFF) / CUTOFF
        ranks[:, pair] = 1 + above + rng.binomial(unseen[:, probe], share)
    return ranks


def ranked_metrics(
    ranks: NDArray[np.intp], relevant: RelevantScores, labels: Labels
) -> dict[str, PerDraw]:
    """Return each metric of :data:`LABELLED`, given ``(draws, pairs)`` ranks."""
    draws = len(ranks)
    found = ranks <= CUTOFF
    hits = np.zeros((draws, len(labels)))
    reciprocal = np.zeros_like(hits)
    gained = np.zeros_like(hits)
    for pair, probe in enumerate(relevant.probe):
        at, here = ranks[:, pair], found[:, pair]
        hits[:, probe] += here
        reciprocal[:, probe] = np.maximum(reciprocal[:, probe], here / at)
        gained[:, probe] += here * relevant.gain[pair] / np.log2(at + 1)
    counts = np.array([len(own) for own in labels])
    ideal = np.array([ideal_discounted_gain(own.values(), CUTOFF) for own in labels])
    return dict(zip(LABELLED, (hits / counts, reciprocal, gained / ideal), strict=True))


@dataclass(frozen=True, slots=True)
class LabelledProbes:
    """The probes that have labels.

    Attributes
    ----------
    which
        Their places among the analysis's probes.
    labels
        Of each.
    relevant
        Its ``probe`` is a place among all probes of the analysis.
    old
        Each metric of the old collection, ``(1, labelled probes)``; None without the old encoder.
    """

    analysis: Analysis
    which: list[int]
    labels: Labels
    relevant: RelevantScores
    resampler: Resampler
    old: dict[str, PerDraw] | None

    @classmethod
    def of(cls, analysis: Analysis) -> LabelledProbes | None:
        """Find them; None if there are fewer than two."""
        which = [p for p, probe in enumerate(analysis.asked) if probe.relevant]
        if len(which) < 2:
            return None
        labels = [analysis.asked[p].relevant for p in which]
        old = None
        if analysis.old is not None:
            ids = analysis.old[which]
            old = {name: metric(ids, labels, CUTOFF)[None] for name, metric in LABELLED.items()}
        return cls(
            analysis,
            which,
            labels,
            RelevantScores.of(analysis, which),
            Resampler(len(which), analysis.seed),
            old,
        )

    def metrics(self, ranks: NDArray[np.intp]) -> dict[str, PerDraw]:
        """Return each metric of :data:`LABELLED`, given ``(draws, pairs)`` ranks."""
        places = replace(self.relevant, probe=np.searchsorted(self.which, self.relevant.probe))
        return ranked_metrics(ranks, places, self.labels)

    def refits(self) -> dict[str, NDArray[np.float64]]:
        """Return each metric of the translated collection by refit, ``(g, labelled probes)``."""
        ids = self.analysis.candidates.ids[self.which]
        orders = self.analysis.orders[:, self.which]
        refits = [np.take_along_axis(ids, order, axis=1) for order in orders]
        return {
            name: np.stack([metric(refit, self.labels, CUTOFF) for refit in refits])
            for name, metric in LABELLED.items()
        }


def compare_labelled(labelled: LabelledProbes) -> list[LabelledMetric]:
    """Compare the three collections metric by metric."""
    analysis, labels, which = labelled.analysis, labelled.labels, labelled.which
    rng = np.random.default_rng(analysis.seed)
    reembedded = labelled.metrics(reembedded_ranks(analysis.truth, labelled.relevant, rng))
    ids, refits = analysis.candidates.ids[which], labelled.refits()
    resampler = labelled.resampler
    rows = []
    for name, metric in LABELLED.items():
        now = None if labelled.old is None else labelled.old[name]
        moved = metric(ids, labels, CUTOFF)[None]
        varied, full = refits[name], reembedded[name]
        rows.append(
            LabelledMetric(
                name=name,
                old=None if now is None else resampler.estimate(now),
                reembedded=resampler.estimate(full),
                translated=resampler.estimate(moved, varied),
                reembedded_minus_old=None if now is None else resampler.compare(full, now),
                translated_minus_old=None
                if now is None
                else resampler.compare(moved, now, varied - now),
                translated_minus_reembedded=resampler.compare(
                    moved, full, varied - full.mean(axis=0)
                ),
            )
        )
    return rows
