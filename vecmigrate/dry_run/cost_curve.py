"""What recall each share of re-embedding buys, in which order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.options import MeasureOptions
from vecmigrate.dry_run.resampling import PerDraw
from vecmigrate.dry_run.survey import Column
from vecmigrate.encoders.metered import Cost
from vecmigrate.evaluation.search import greatest
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import CostCurve, CurveLine, CurvePoint

CUTOFF = 10
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RANDOM = "random"


def cost_curve(
    analysis: Analysis, metric: Metric, price: Callable[[float], Cost], options: MeasureOptions
) -> CostCurve:
    """Compute the curve of every order.

    The map stays what it is: what a refit on more anchors would gain comes on top. Anchors, whose
    true vectors are there already, are the first share; the rest follow in the order's turn.

    Parameters
    ----------
    price
        The cost of re-embedding a share of the corpus.
    """
    rng, imputed = np.random.default_rng(analysis.seed), analysis.truth.imputed
    refits = analysis.refitted(lambda order: analysis.truth.recall(10, order))
    survey = analysis.measured.survey
    # By order and candidate, the share of the corpus that comes before.
    orders = {name: survey.share_before(name)[analysis.rows] for name in survey.values}
    orders[RANDOM] = rng.random(imputed.scores.shape)
    beyond = rng.random((len(imputed.scores), *imputed.beyond.shape))
    anchors = analysis.anchor_share
    shares = [0.0, anchors, *(share for share in SHARES if share > anchors), 1.0]
    lines = []
    for name, before in orders.items():
        points = []
        for share in shares:
            recall = _recall(analysis, metric, share, before, beyond, rng)
            estimate = analysis.resampler.estimate(recall, (1 - share) * refits)
            points.append(CurvePoint(share=share, recall_at_10=estimate, cost=price(share)))
        lines.append(CurveLine(order=name, points=points))
    wanted, target = options.curve_order, options.target_recall
    chosen = next((line for line in lines if line.order == wanted), None) or max(
        lines, key=lambda line: np.mean([point.recall_at_10.value for point in line.points])
    )
    cheapest = None
    if target is not None:
        cheapest = next((p for p in chosen.points if p.recall_at_10.low >= target), None)
    return CostCurve(chosen=chosen.order, lines=lines, target_recall=target, cheapest=cheapest)


def _recall(
    analysis: Analysis,
    metric: Metric,
    share: float,
    before: NDArray[np.floating],
    beyond_before: NDArray[np.floating],
    rng: np.random.Generator,
) -> PerDraw:
    """recall@10 in a collection with this share re-embedded.

    Parameters
    ----------
    before, beyond_before
        Of the candidates and of ``imputed.beyond``, the share of the corpus that comes before.
    """
    truth, anchors = analysis.truth, analysis.anchor_share
    rest = max(0.0, share - anchors) / max(1 - anchors, 1e-12)
    with_anchors = share >= anchors > 0
    true, beyond = truth.imputed.scores, truth.imputed.beyond
    draws = len(true)
    threshold = truth.thresholds[CUTOFF][:, :, None]
    is_anchor_beyond = analysis.true.beyond_rows < analysis.measured.known.anchors
    fresh = np.where(analysis.true.anchors, with_anchors, before < rest)
    fresh_beyond = np.where(is_anchor_beyond, with_anchors, beyond_before < rest)
    mixed = np.where(fresh, true, _scaled(analysis, metric, share))
    mixed = np.concatenate([mixed, np.where(fresh_beyond, beyond, -np.inf)], axis=2)
    truly = np.concatenate([true, np.broadcast_to(beyond, (draws, *beyond.shape))], axis=2)
    k = min(CUTOFF, mixed.shape[2])
    first = greatest(mixed, k)
    hits = np.take_along_axis(truly, first, axis=2) >= threshold
    hits &= np.isfinite(np.take_along_axis(mixed, first, axis=2))
    found = hits.sum(axis=2) + rng.binomial(truth.unseen[CUTOFF], rest)
    recall: PerDraw = np.minimum(found / k, 1)
    return recall


def _scaled(analysis: Analysis, metric: Metric, share: float) -> Column:
    """Translated scores as they count beside true ones, by the rule of :func:`mixing_scale`."""
    translated = analysis.candidates.scores
    if round(CUTOFF * share) < 2 or metric is Metric.MANHATTAN:
        return translated
    # Squared distances of unit vectors are 2 - 2 cos.
    shift = 2.0 if metric is Metric.EUCLID else 0.0
    true_tenth = analysis.truth.thresholds[CUTOFF]
    true_tenth = true_tenth[np.isfinite(true_tenth)].mean() + shift
    tenth = translated[:, min(CUTOFF, translated.shape[1]) - 1].mean() + shift
    scale = float(min(true_tenth / tenth, 1)) if min(true_tenth, tenth) > 0 else 1.0
    return np.asarray(scale * (translated + shift) - shift, np.float32)
