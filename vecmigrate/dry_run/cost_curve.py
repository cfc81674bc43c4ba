"""What recall each share of re-embedding buys, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.resampling import PerDraw, Resampler, Truth
from vecmigrate.dry_run.survey import Column
from vecmigrate.encoders.metered import Cost
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import CostCurve, CurveLine, CurvePoint

CUTOFF = 10
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates that the curve is computed on.

    Attributes
    ----------
    truth
        Their true scores.
    translated
        ``(probes, m)`` translated scores.
    anchors, anchors_beyond
        Which candidates, and which of ``truth.imputed.beyond``, are anchors.
    orders
        For each order by name, ``(probes, m)``: the share of the corpus that comes before.
    anchor_share
        Share of the corpus that is anchors.
    """

    truth: Truth
    translated: Column
    anchors: NDArray[np.bool_]
    anchors_beyond: NDArray[np.bool_]
    orders: Mapping[str, NDArray[np.floating]]
    anchor_share: float


def cost_curve(
    pool: Pool,
    metric: Metric,
    price: Callable[[float], Cost],
    resampler: Resampler,
    refits: PerDraw,
    rng: np.random.Generator,
    *,
    order: str | None,
    target_recall: float | None,
) -> CostCurve:
    """Compute the curve of every order.

    The map stays what it is: what a refit on more anchors would gain comes on top. Anchors, whose
    true vectors are there already, are the first share; the rest follow in the order's turn.

    Parameters
    ----------
    price
        The cost of re-embedding a share of the corpus.
    refits
        ``(g, probes)`` recall@10 under each refit.
    order
        The one to choose; None takes that with the highest mean.
    """
    draws = len(pool.truth.imputed.scores)
    orders: dict[str, NDArray[np.floating]] = dict(pool.orders)
    orders[RANDOM] = rng.random((draws, *pool.translated.shape))
    beyond = rng.random((draws, *pool.truth.imputed.beyond.shape))
    shares = [0.0, pool.anchor_share, *(s for s in SHARES if s > pool.anchor_share), 1.0]
    lines = []
    for name, before in orders.items():
        points = []
        for share in shares:
            recall = _recall(pool, metric, share, before, beyond, draws, rng)
            estimate = resampler.estimate(recall, (1 - share) * refits)
            points.append(CurvePoint(share=share, recall_at_10=estimate, cost=price(share)))
        lines.append(CurveLine(order=name, points=points))
    chosen = next((line for line in lines if line.order == order), None) or max(
        lines, key=lambda line: np.mean([point.recall_at_10.value for point in line.points])
    )
    cheapest = None
    if target_recall is not None:
        meeting = (p for p in chosen.points if p.recall_at_10.low >= target_recall)
        cheapest = next(meeting, None)
    return CostCurve(
        chosen=chosen.order, lines=lines, target_recall=target_recall, cheapest=cheapest
    )


def _recall(
    pool: Pool,
    metric: Metric,
    share: float,
    before: NDArray[np.floating],
    beyond_before: NDArray[np.floating],
    draws: int,
    rng: np.random.Generator,
) -> PerDraw:
    """recall@10 in a collection with this share re-embedded."""
    rest = max(0.0, share - pool.anchor_share) / max(1 - pool.anchor_share, 1e-12)
    with_anchors = share >= pool.anchor_share > 0
    true, beyond = pool.truth.imputed.scores, pool.truth.imputed.beyond
    threshold = pool.truth.thresholds[CUTOFF][:, :, None]
    unseen = pool.truth.unseen[CUTOFF]
    fresh = np.where(pool.anchors, with_anchors, before < rest)
    fresh_beyond = np.where(pool.anchors_beyond, with_anchors, beyond_before < rest)
    mixed = np.where(fresh, true, _scaled(pool, metric, share))
    mixed = np.concatenate([mixed, np.where(fresh_beyond, beyond, -np.inf)], axis=2)
    truly = np.concatenate([true, np.broadcast_to(beyond, (draws, *beyond.shape))], axis=2)
    k = min(CUTOFF, mixed.shape[2])
    first = np.argpartition(-mixed, k - 1, axis=2)[:, :, :k]
    hits = np.take_along_axis(truly, first, axis=2) >= threshold
    hits &= np.isfinite(np.take_along_axis(mixed, first, axis=2))
    found = hits.sum(axis=2) + rng.binomial(unseen, rest)
    recall: PerDraw = np.minimum(found / k, 1)
    return recall


def _scaled(pool: Pool, metric: Metric, share: float) -> Column:
    """Translated scores as they count beside true ones, by the rule of :func:`mixing_scale`."""
    translated = pool.translated
    if round(CUTOFF * share) < 2 or metric is Metric.MANHATTAN:
        return translated
    # Squared distances of unit vectors are 2 - 2 cos.
    shift = 2.0 if metric is Metric.EUCLID else 0.0
    true_tenth = pool.truth.thresholds[CUTOFF]
    true_tenth = true_tenth[np.isfinite(true_tenth)].mean() + shift
    tenth = translated[:, min(CUTOFF, translated.shape[1]) - 1].mean() + shift
    scale = float(min(true_tenth / tenth, 1)) if min(true_tenth, tenth) > 0 else 1.0
    return np.asarray(scale * (translated + shift) - shift, np.float32)
