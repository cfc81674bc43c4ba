"""Labelled metrics of the old, the translated and the fully re-embedded collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.evaluation.metrics import (
    Labels,
    ideal_discounted_gain,
    labelled_recall,
    ndcg,
    reciprocal_rank,
)
from vecmigrate.points.batch import IdArray
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
        ``(draws, pairs)``; ``-inf`` where neither known nor a candidate.
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


def compare_labelled(
    labels: Labels,
    old: IdArray | None,
    translated: IdArray,
    refits: Sequence[IdArray],
    reembedded: dict[str, PerDraw],
    resampler: Resampler,
) -> list[LabelledMetric]:
    """Compare the three collections metric by metric.

    Parameters
    ----------
    labels
        Of each probe; none empty.
    old, translated
        ``(probes, >= 10)`` ids by rank; ``old`` is None where its encoder was not given.
    refits
        What ``translated`` is under each refit.
    reembedded
        From :func:`reembedded_metrics`.
    """
    rows = []
    for name, metric in LABELLED.items():
        now = None if old is None else metric(old, labels, CUTOFF)[None]
        moved = metric(translated, labels, CUTOFF)[None]
        varied = np.stack([metric(ids, labels, CUTOFF) for ids in refits])
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
