"""Several reports in one plot."""

from __future__ import annotations

from collections.abc import Sequence

from vecmigrate.report.comparison import ComparedReport
from vecmigrate.report.formatting import ABSENT, counted, estimate, trimmed
from vecmigrate.report.plots.canvas import (
    Axes,
    Plot,
    dot_with_interval,
    draw,
    legend_above,
    line_with_band,
    recall_by_k,
    series,
)

_INCHES_A_ROW = 0.5
_INCHES_A_LEGEND_LINE = 0.2
_LABEL, _LEGEND_LABEL = 22, 40


def recall_at_10_plot(reports: Sequence[ComparedReport]) -> Plot:
    """recall@10 with its interval, a row a report."""

    def paint(axes: Axes) -> None:
        for row, report in enumerate(reports):
            if 10 in report.recall:
                dot_with_interval(axes, report.recall[10], row, series(row), "")
        names = [
            f"{number} {trimmed(r.new_encoder, _LABEL)}\n{trimmed(r.method, _LABEL)}"
            for number, r in enumerate(reports, start=1)
        ]
        axes.set_yticks(range(len(reports)), names)
        axes.set_ylim(len(reports) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("recall@10")

    return Plot(
        name="recall-at-10",
        title="recall@10 of each report",
        svg=draw("recall-at-10", paint, height=0.9 + _INCHES_A_ROW * len(reports)),
        finding=_finding(reports),
        caption="Bars are 95 % intervals. Rows are numbered as in the table.",
        columns=["report", "recall@10"],
        rows=[
            [_name(number, r, 80), estimate(r.recall.get(10))]
            for number, r in enumerate(reports, start=1)
        ],
    )


def curves_plot(reports: Sequence[ComparedReport]) -> Plot:
    """recall@k of each report."""
    cutoffs = sorted({k for report in reports for k in report.recall})

    def paint(axes: Axes) -> None:
        for position, report in enumerate(reports):
            ks = sorted(report.recall)
            line_with_band(
                axes, ks, [report.recall[k] for k in ks], series(position),
                _name(position + 1, report, _LEGEND_LABEL),
            )  # fmt: skip
        recall_by_k(axes, cutoffs)
        legend_above(axes, columns=1)

    return Plot(
        name="curves",
        title="recall@k of each report",
        svg=draw("curves", paint, height=3.3 + _INCHES_A_LEGEND_LINE * len(reports)),
        finding=_curves_finding(reports, cutoffs),
        caption="Bands are 95 % intervals.",
        columns=["report", *(f"recall@{k}" for k in cutoffs)],
        rows=[
            [_name(number, r, 80), *(estimate(r.recall[k]) if k in r.recall else ABSENT
                                     for k in cutoffs)]
            for number, r in enumerate(reports, start=1)
        ],
    )  # fmt: skip


def _name(number: int, report: ComparedReport, longest: int) -> str:
    return f"{number} {trimmed(f'{report.new_encoder}, {report.method}', longest)}"


def _curves_finding(reports: Sequence[ComparedReport], cutoffs: Sequence[int]) -> str:
    told = []
    for k in cutoffs:
        having = [(number, r.recall[k]) for number, r in enumerate(reports, 1) if k in r.recall]
        best, figure = max(having, key=lambda one: one[1].value)
        told.append(f"report {best} with {figure.value:.3f} at k = {k}")
    return f"Highest recall: {', '.join(told)}."


def _finding(reports: Sequence[ComparedReport]) -> str:
    told = [(number, r.recall[10]) for number, r in enumerate(reports, 1) if 10 in r.recall]
    if not told:
        return "None of the reports has recall@10."
    best, figure = max(told, key=lambda one: one[1].value)
    said = f"Of {counted(len(told), 'report')}, report {best} has the highest recall@10, "
    said += f"{estimate(figure)}."
    rivals = [number for number, other in told if number != best and other.high >= figure.low]
    if rivals:
        listed = ", ".join(map(str, rivals))
        said += f" Its interval overlaps with that of report{'s'[: len(rivals) > 1]} {listed}."
    return said
