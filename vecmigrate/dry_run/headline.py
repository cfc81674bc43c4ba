"""The report's first lines, in words."""

from __future__ import annotations

from vecmigrate.report.formatting import cost
from vecmigrate.report.schema import (
    CostCurve,
    Estimate,
    LabelledMetric,
    Outcome,
    ProbeKind,
    ProbeSample,
    RecallFigures,
    Spending,
    Upgrade,
    Verdict,
)

SIGNIFICANT = 0.05


def headline(
    population: int,
    probes: ProbeSample,
    recall: RecallFigures,
    upgrade: Upgrade,
    curve: CostCurve,
    spending: Spending,
    verdict: Verdict,
) -> list[str]:
    """Sentences, the most important first: is the new encoder better, what does translation cost,
    what does re-embedding buy, go or not."""
    lines = [_is_it_better(upgrade), *_what_it_costs(population, probes, recall)]
    lines += _what_labels_lose(upgrade.labelled)
    lines.append(_what_money_buys(curve, spending))
    lines += _verdict(verdict)
    return lines


def _is_it_better(upgrade: Upgrade) -> str:
    for metric in upgrade.labelled:
        test = metric.reembedded_minus_old
        if metric.name != "nDCG@10" or test is None or metric.old is None:
            continue
        change = test.difference
        significant = test.p_value < SIGNIFICANT
        verdict = (
            ("is better" if change.value > 0 else "is worse")
            if significant
            else "is not shown to be better"
        )
        return (
            f"On your labels the new encoder {verdict}: nDCG@10 {metric.reembedded.value:.3f} "
            f"fully re-embedded against {metric.old.value:.3f} now (difference "
            f"{change.value:+.3f}, 95 % interval {change.low:+.3f} to {change.high:+.3f}, "
            f"p = {test.p_value:.2g})."
        )
    if upgrade.agreement_at_10 is not None:
        return (
            f"Without labels it cannot be told whether the new encoder is better: the two agree on "
            f"{_percent(upgrade.agreement_at_10)} of their ten nearest. Judge by the queries that "
            "they differ on."
        )
    return (
        "Whether the new encoder is better was not measured: give --old-encoder, and labels where "
        "there are any."
    )


def _what_it_costs(population: int, probes: ProbeSample, recall: RecallFigures) -> list[str]:
    kind = "logged queries" if probes.kind is ProbeKind.QUERY_LOG else "documents as queries"
    lines = []
    if 10 in recall.at:
        lines.append(
            f"Translation keeps {_percent(recall.at[10])} of the ten nearest that full "
            f"re-embedding of all {population:,} points would return (recall@10, {probes.used} "
            f"{kind}). A comparison inside the anchors would have said "
            f"{recall.in_sample_at_10:.0%}."
        )
    if probes.kind is ProbeKind.DOCUMENTS:
        lines.append(
            "Documents served as queries, which is easier than what users ask: expect less, and "
            "give a log with --queries."
        )
    elif recall.documents_easier_by is not None:
        by = recall.documents_easier_by
        lines.append(
            f"Documents as queries would have said {by.value:+.3f} (95 % interval {by.low:+.3f} "
            f"to {by.high:+.3f})."
        )
    return lines


def _what_labels_lose(labelled: list[LabelledMetric]) -> list[str]:
    for metric in labelled:
        test = metric.translated_minus_old or metric.translated_minus_reembedded
        against = "today's collection" if metric.translated_minus_old else "full re-embedding"
        if metric.name == "nDCG@10":
            change = test.difference
            return [
                f"On labels the translated collection has nDCG@10 {metric.translated.value:.3f}, "
                f"{change.value:+.3f} against {against} (95 % interval {change.low:+.3f} to "
                f"{change.high:+.3f}, p = {test.p_value:.2g})."
            ]
    return []


def _what_money_buys(curve: CostCurve, spending: Spending) -> str:
    if curve.target_recall is None:
        return f"Re-embedding everything would take {cost(spending.everything)}."
    aim = f"recall@10 of {curve.target_recall:.2f}"
    if curve.cheapest is None:
        return f"No share of re-embedding in order of {curve.chosen} surely meets {aim}."
    return (
        f"The cheapest way to {aim}: re-embed {curve.cheapest.share:.0%} of the corpus in order "
        f"of {curve.chosen}, {cost(curve.cheapest.cost)}."
    )


def _verdict(verdict: Verdict) -> list[str]:
    failed = [gate.name for gate in verdict.gates if gate.outcome is Outcome.NO_GO]
    unsure = [gate for gate in verdict.gates if gate.outcome is Outcome.TOO_SMALL]
    if verdict.outcome is Outcome.GO:
        return ["Go: every gate is met, with its whole interval."]
    if verdict.outcome is Outcome.NO_GO:
        return [f"No-go: {', '.join(failed)} not met."]
    if verdict.outcome is Outcome.TOO_SMALL:
        more = max(gate.more_probes or 0 for gate in unsure)
        names = ", ".join(gate.name for gate in unsure)
        return [f"The sample is too small to tell {names}: about {more:,} more probes needed."]
    return []


def _percent(figure: Estimate) -> str:
    return f"{figure.value:.0%} (95 % interval {figure.low:.0%} to {figure.high:.0%})"
