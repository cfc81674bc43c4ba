"""What re-embedding more of the corpus buys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecmigrate.report.formatting import estimate, percent
from vecmigrate.report.plots.canvas import (
    ALERT,
    INK,
    Plot,
    draw,
    legend_above,
    line_with_band,
    series,
)
from vecmigrate.report.schema import CostCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost_plot(curve: CostCurve) -> Plot:
    """recall@10 against the share re-embedded, a line an order; one at least has points."""
    # The chosen order first, so that it has the plainest look whatever it is.
    lines = sorted(curve.lines, key=lambda line: line.order != curve.chosen)

    def paint(axes: Axes) -> None:
        for position, line in enumerate(lines):
            label = f"{line.order} (chosen)" if line.order == curve.chosen else line.order
            line_with_band(
                axes,
                [100 * point.share for point in line.points],
                [point.recall_at_10 for point in line.points],
                series(position),
                f"by {label}" if line.order != "random" else label,
            )
        if curve.target_recall is not None:
            axes.axhline(
                curve.target_recall, color=ALERT, linewidth=1.4, linestyle=(0, (5, 2)),
                label=f"target {curve.target_recall:g}",
            )  # fmt: skip
        if curve.cheapest is not None:
            share, recall = 100 * curve.cheapest.share, curve.cheapest.recall_at_10.value
            axes.plot([share, share], [0, recall], color=INK, linewidth=1, linestyle=":")
            axes.plot(
                [share], [recall], marker="o", markersize=12, markerfacecolor="none",
                markeredgecolor=INK, markeredgewidth=1.8, linestyle="none",
                label=f"cheapest: {percent(curve.cheapest.share)}",
            )  # fmt: skip
        lowest = min(
            (point.recall_at_10.low for line in lines for point in line.points), default=0.0
        )
        axes.set_ylim(max(0.0, lowest - 0.05), 1.02)
        axes.set_xlabel("share of the corpus re-embedded, %")
        axes.set_ylabel("recall@10")
        legend_above(axes, columns=2)

    return Plot(
        name="cost-curve",
        title="recall@10 by what is re-embedded",
        svg=draw("cost-curve", paint, height=4.2),
        finding=cost_finding(curve),
        caption="Bands are 95 % intervals. The cheapest budget is the least share of the chosen "
        "order whose interval's lower end reaches the target.",
        columns=["order", "share re-embedded", "recall@10"],
        rows=[
            [line.order, percent(point.share), estimate(point.recall_at_10)]
            for line in lines
            for point in line.points
        ],
    )


def cost_finding(curve: CostCurve) -> str:
    """Where the curve starts, how the orders compare half-way, what meets the target."""
    lines = [line for line in curve.lines if line.points]
    start = lines[0].points[0]
    half_way = [
        (line.order, min(line.points, key=lambda point: abs(point.share - 0.5))) for line in lines
    ]
    told = ", ".join(
        f"{point.recall_at_10.value:.3f} in the order {order}"
        + ("" if point.share == half_way[0][1].share else f" (at {percent(point.share)})")
        for order, point in half_way
    )
    return (
        f"recall@10 is {start.recall_at_10.value:.3f} with {percent(start.share)} re-embedded; "
        f"with {percent(half_way[0][1].share)} it is {told}. {cheapest_finding(curve)}"
    )


def cheapest_finding(curve: CostCurve) -> str:
    """The least share that meets the target, in words."""
    if curve.target_recall is None:
        return "No target recall was given, so no cheapest budget is told."
    if curve.cheapest is None:
        return (
            f"No share that was looked at meets the target of {curve.target_recall:g} with "
            "certainty."
        )
    return (
        f"The target of {curve.target_recall:g} is met from {percent(curve.cheapest.share)} on, "
        f"in the order {curve.chosen}: recall@10 {estimate(curve.cheapest.recall_at_10)}."
    )
