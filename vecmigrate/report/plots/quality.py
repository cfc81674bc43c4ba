"""How good the translated collection is: recall@k, labelled metrics, what re-embedding buys."""

from __future__ import annotations

from vecmigrate.report.formatting import estimate, percent, signed, trimmed
from vecmigrate.report.plots.canvas import (
    ALERT,
    INK,
    ONE,
    PAPER,
    THREE,
    TWO,
    Axes,
    Plot,
    dot_with_interval,
    draw,
    legend_above,
    line_with_band,
    recall_by_k,
    series,
)
from vecmigrate.report.schema import (
    CostCurve,
    Estimate,
    LabelledMetric,
    ProbeKind,
    ProbeSample,
    RecallFigures,
)

FIGURE_AT = 10


def recall_plot(recall: RecallFigures, probes: ProbeSample) -> Plot:
    """recall@k with its band, and beside it the figure that overstates."""
    cutoffs = sorted(recall.at)

    def paint(axes: Axes) -> None:
        logged = probes.kind is ProbeKind.QUERY_LOG
        label = "logged queries" if logged else "held-out documents as queries"
        line_with_band(axes, cutoffs, [recall.at[k] for k in cutoffs], ONE, label)
        if recall.documents_at_10 is not None:
            there = recall.documents_at_10
            axes.plot([FIGURE_AT] * 2, [there.low, there.high], color=THREE.colour, linewidth=2)
            axes.plot(
                [FIGURE_AT], [there.value], color=THREE.colour, marker=THREE.marker, markersize=8,
                markeredgecolor=PAPER, markeredgewidth=0.8, linestyle="none",
                label="documents as queries",
            )  # fmt: skip
        axes.plot(
            [FIGURE_AT], [recall.in_sample_at_10], color=ALERT, marker="D", markersize=7,
            markerfacecolor=PAPER, markeredgewidth=1.8, linestyle="none",
            label="within the anchors, as others report it",
        )  # fmt: skip
        recall_by_k(axes, cutoffs)
        legend_above(axes, columns=1)

    return Plot(
        name="recall-at-k",
        title="recall@k of the translated collection",
        svg=draw("recall-at-k", paint, height=3.9),
        finding=_recall_finding(recall),
        caption="The band is the 95 % interval. The hollow diamond is what a comparison within "
        "the anchors gives, the figure that others would have reported.",
        columns=["k", "recall@k", "95 % from", "to"],
        rows=[
            [str(k), f"{f.value:.3f}", f"{f.low:.3f}", f"{f.high:.3f}"]
            for k, f in ((k, recall.at[k]) for k in cutoffs)
        ],
    )


def _recall_finding(recall: RecallFigures) -> str:
    cutoffs = sorted(recall.at)
    told = FIGURE_AT if FIGURE_AT in recall.at else cutoffs[0]
    said = f"On the whole corpus recall@{told} is {estimate(recall.at[told])}"
    others = [f"{recall.at[k].value:.3f} at k = {k}" for k in cutoffs if k != told]
    said += f"; it is {', '.join(others)}. " if others else ". "
    said += f"Within the anchors recall@10 would seem to be {recall.in_sample_at_10:.3f}."
    if recall.documents_at_10 is not None:
        said += f" With documents as queries recall@10 is {estimate(recall.documents_at_10)}"
        if recall.documents_easier_by is not None:
            said += f", {signed(recall.documents_easier_by)} against logged queries"
        said += "."
    return said


_LOOKS = {"old": TWO, "translated": ONE, "re-embedded": THREE}


def labelled_plot(metrics: list[LabelledMetric]) -> Plot:
    """Old, translated and re-embedded side by side, a row a metric; ``metrics`` not empty."""

    def paint(axes: Axes) -> None:
        for row, metric in enumerate(metrics):
            for offset, (name, figure) in zip((-0.22, 0, 0.22), _figures(metric), strict=True):
                if figure is not None:
                    dot_with_interval(axes, figure, row + offset, _LOOKS[name], name)
        axes.set_yticks(range(len(metrics)), [trimmed(metric.name, 18) for metric in metrics])
        axes.set_ylim(len(metrics) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("metric over labelled queries")
        legend_above(axes, columns=3)

    return Plot(
        name="labelled",
        title="Quality by labels",
        svg=draw("labelled", paint, height=1.6 + 0.62 * len(metrics)),
        finding=" ".join(_labelled_finding(metric) for metric in metrics),
        caption="Each mark is a mean over the labelled queries, its bar the 95 % interval. "
        "Overlapping bars do not settle a difference: the paired differences in the table do.",
        columns=["metric", "old", "translated", "re-embedded"],
        rows=[[m.name, *(estimate(figure) for _, figure in _figures(m))] for m in metrics],
    )


def _figures(metric: LabelledMetric) -> list[tuple[str, Estimate | None]]:
    return [
        ("old", metric.old),
        ("translated", metric.translated),
        ("re-embedded", metric.reembedded),
    ]


def _labelled_finding(metric: LabelledMetric) -> str:
    told = [f"{figure.value:.3f} {name}" for name, figure in _figures(metric) if figure is not None]
    return f"{metric.name}: {', '.join(told)}."


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
