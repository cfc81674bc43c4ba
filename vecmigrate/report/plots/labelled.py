"""The labelled metrics of the three collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecmigrate.report.formatting import estimate, trimmed
from vecmigrate.report.plots.canvas import (
    ONE,
    THREE,
    TWO,
    Plot,
    dot_with_interval,
    draw,
    legend_above,
)
from vecmigrate.report.schema import Estimate, LabelledMetric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        finding=" ".join(_finding(metric) for metric in metrics),
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


def _finding(metric: LabelledMetric) -> str:
    told = [f"{figure.value:.3f} {name}" for name, figure in _figures(metric) if figure is not None]
    return f"{metric.name}: {', '.join(told)}."
