"""Labelled metrics of the old, the translated and the fully re-embedded collection."""

from __future__ import annotations

from collections.abc import Callable
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
    """

    probe: NDArray[np.intp]
    gain: NDArray[np.float64]
    scores: NDArray[np.float32]


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


def reembedded_metrics(
    ranks: NDArray[np.intp], relevant: RelevantScores, labels: Labels
) -> dict[str, PerDraw]:
    """Return each metric of :data:`LABELLED`."""
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


def compare_labelled(analysis: Analysis) -> list[LabelledMetric]:
    """Compare the three collections metric by metric; empty if no probe has labels."""
    which = [p for p, probe in enumerate(analysis.asked) if probe.relevant]
    if len(which) < 2:
        return []
    labels = [analysis.asked[p].relevant for p in which]
    relevant = _relevant_scores(analysis, which)
    ranks = reembedded_ranks(analysis.truth, relevant, np.random.default_rng(analysis.seed))
    places = replace(relevant, probe=np.searchsorted(which, relevant.probe))
    reembedded = reembedded_metrics(ranks, places, labels)
    ids = analysis.candidates.ids[which]
    refits = [np.take_along_axis(ids, order, axis=1) for order in analysis.orders[:, which]]
    old = None if analysis.old is None else analysis.old[which]
    resampler = Resampler(len(which), analysis.seed)
    rows = []
    for name, metric in LABELLED.items():
        now = None if old is None else metric(old, labels, CUTOFF)[None]
        moved = metric(ids, labels, CUTOFF)[None]
        varied = np.stack([metric(refit, labels, CUTOFF) for refit in refits])
        full = reembedded[name]
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


def _relevant_scores(analysis: Analysis, which: list[int]) -> RelevantScores:
    pairs = [(p, i, gain) for p in which for i, gain in analysis.asked[p].relevant.items()]
    known = analysis.measured.known.rows_of(id_array(point for _, point, _ in pairs))
    imputed = analysis.truth.imputed.scores
    scores = np.full((len(imputed), len(pairs)), -np.inf, np.float32)
    for pair, ((p, point, _), row) in enumerate(zip(pairs, known.tolist(), strict=True)):
        at = np.flatnonzero(analysis.candidates.ids[p] == point)
        if row >= 0:
            scores[:, pair] = analysis.true.all[p, row]
        elif len(at):
            scores[:, pair] = imputed[:, p, at[0]]
    return RelevantScores(
        np.array([p for p, _, _ in pairs], np.intp), np.array([g for _, _, g in pairs]), scores
    )
