"""What recall each share of re-embedding buys, in which order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.mixed import Mixture, Orders
from vecmigrate.dry_run.options import MeasureOptions
from vecmigrate.encoders.metered import Cost
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import CostCurve, CurveLine, CurvePoint

CUTOFF = 10
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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
    refits = analysis.refitted(lambda order: analysis.truth.recall(CUTOFF, order))
    orders = Orders.of(analysis)
    anchors = analysis.anchor_share
    shares = [0.0, anchors, *(share for share in SHARES if share > anchors), 1.0]
    lines = []
    for name in orders.of_candidates:
        points = []
        for share in shares:
            recall = Mixture(analysis, metric, orders, name, share).recall(CUTOFF)
            estimate = analysis.resampler.estimate(recall, (1 - share) * refits)
            points.append(CurvePoint(share=share, recall_at_10=estimate, cost=price(share)))
        lines.append(CurveLine(order=name, points=points))
    wanted, target = options.curve_order, options.target_recall
    chosen = next((line for line in lines if line.order == wanted), None)
    chosen = chosen or max(lines, key=average_recall)
    cheapest = None
    if target is not None:
        cheapest = next((p for p in chosen.points if p.recall_at_10.low >= target), None)
    return CostCurve(chosen=chosen.order, lines=lines, target_recall=target, cheapest=cheapest)


def average_recall(line: CurveLine) -> float:
    """Return the mean recall@10 of a line's points, of which every line has the same shares."""
    return float(np.mean([point.recall_at_10.value for point in line.points]))
