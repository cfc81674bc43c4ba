"""recall@k."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecmigrate.report.formatting import estimate, signed
from vecmigrate.report.plots.canvas import (
    ALERT,
    ONE,
    PAPER,
    THREE,
    Plot,
    draw,
    legend_above,
    line_with_band,
    recall_by_k,
)
from vecmigrate.report.schema import ProbeKind, ProbeSample, RecallFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_AT = 10


def recall_plot(recall: RecallFigures, probes: ProbeSample) -> Plot:
    """recall@k with its band, and beside it the figure that overstates."""
    cutoffs = sorted(recall.at)

    def paint(axes: Axes) -> None:
        line_with_band(
            axes, cutoffs, [recall.at[k] for k in cutoffs], ONE, _probes_label(probes.kind)
        )
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
        finding=_finding(recall),
        caption="The band is the 95 % interval. The hollow diamond is what a comparison within "
        "the anchors gives, the figure that others would have reported.",
        columns=["k", "recall@k", "95 % from", "to"],
        rows=[
            [str(k), f"{f.value:.3f}", f"{f.low:.3f}", f"{f.high:.3f}"]
            for k, f in ((k, recall.at[k]) for k in cutoffs)
        ],
    )


def _probes_label(kind: ProbeKind) -> str:
    return "logged queries" if kind is ProbeKind.QUERY_LOG else "held-out documents as queries"


def _finding(recall: RecallFigures) -> str:
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
