"""A dry run's summary for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from vecmigrate.report.formatting import (
    OUTCOME_NAMES,
    cost,
    counted,
    estimate,
    paired,
    percent,
    trimmed,
)
from vecmigrate.report.schema import CostCurve, DryRunReport, Gate

if TYPE_CHECKING:
    # A command imports this module while the command line is being put together.
    from vecmigrate.cli.output import Output


def show(report: DryRunReport, out: Output) -> None:
    """Print headline, verdict, recall, labelled metrics and the cheapest budget."""
    for sentence in report.headline:
        out.say(trimmed(sentence, 600))
    out.say(f"verdict: {OUTCOME_NAMES[report.verdict.outcome]}")
    _gates(report.verdict.gates, out)
    _recall(report, out)
    _labelled(report, out)
    out.say(_cheapest(report.curve))


def _gates(gates: list[Gate], out: Output) -> None:
    if not gates:
        return
    rows = [
        [
            escape(gate.name),
            OUTCOME_NAMES[gate.outcome],
            _cell(estimate(gate.figure)),
            f"{gate.threshold:g}",
            "-" if gate.more_probes is None else counted(gate.more_probes, "probe"),
        ]
        for gate in gates
    ]
    out.table(["gate", "outcome", "measured", "threshold", "would tell: about, more"], rows)


def _recall(report: DryRunReport, out: Output) -> None:
    recall = report.recall
    rows = [[name, _cell(estimate(figure))] for name, figure in recall.rows]
    out.table(["translated against re-embedded", "estimate and 95 % interval"], rows)
    out.say(
        f"{recall.in_sample_at_10:.3f} is recall@10 within the anchors: "
        "what others would have reported"
    )


def _labelled(report: DryRunReport, out: Output) -> None:
    metrics = report.upgrade.labelled
    if not metrics:
        out.say("No labels were given, so it cannot be told which encoder is better here.")
        return
    out.table(
        ["labelled metric", "old", "translated", "re-embedded"],
        [
            [escape(m.name), *map(_cell, map(estimate, (m.old, m.translated, m.reembedded)))]
            for m in metrics
        ],
    )
    differences = [
        [
            escape(m.name),
            *map(_cell, map(paired, (m.reembedded_minus_old, m.translated_minus_reembedded))),
        ]
        for m in metrics
    ]
    out.table(["paired difference", "re-embedded - old", "translated - re-embedded"], differences)


def _cheapest(curve: CostCurve) -> str:
    if curve.target_recall is None:
        return "No target recall was given, so no cheapest budget is told."
    if curve.cheapest is None:
        return f"No share that was looked at meets the target of {curve.target_recall:g}."
    return (
        f"cheapest budget for recall@10 {curve.target_recall:g}: re-embed "
        f"{percent(curve.cheapest.share)} in the order {curve.chosen} ({cost(curve.cheapest.cost)})"
    )


def _cell(text: str) -> str:
    # Brackets are markup to the table.
    return escape(text)
