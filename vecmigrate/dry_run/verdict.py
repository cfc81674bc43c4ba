"""Go, no-go, or too few probes to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vecmigrate.errors import ExitCode, UsageError
from vecmigrate.report.formatting import cost, route_name
from vecmigrate.report.schema import (
    CostCurve,
    Estimate,
    Gate,
    LabelledMetric,
    Outcome,
    ProbeKind,
    ProbeSample,
    RecallFigures,
    Route,
    RouteComparison,
    RouteKind,
    RouteMetric,
    RouteName,
    Spending,
    Upgrade,
    Verdict,
)

EXIT_CODES = dict.fromkeys(Outcome, ExitCode.OK) | {
    Outcome.NO_GO: ExitCode.NO_GO,
    Outcome.TOO_SMALL: ExitCode.TOO_SMALL,
}


def check_gates(thresholds: Mapping[str, float], *, comparable: bool) -> None:
    """Refuse gates that cannot be judged, before anything is paid for.

    Parameters
    ----------
    comparable
        True if there are labels and the old encoder.

    Raises
    ------
    UsageError
    """
    for name in thresholds:
        if name.startswith("max-loss") and not comparable:
            raise _not_comparable(name)


def _not_comparable(name: str) -> UsageError:
    return UsageError(
        f"--{name} compares labelled metrics with the old collection's",
        remedy="Give labels, in --queries or --labels, and --old-encoder.",
    )


def judge(
    thresholds: Mapping[str, float],
    figures: Mapping[str, Estimate],
    labelled: Sequence[RouteMetric],
    probes: int,
    labelled_probes: int,
) -> Verdict:
    """Hold what a route serves against the thresholds.

    ``min-recall@K`` and ``min-ndcg@10`` are recall and nDCG against full re-embedding;
    ``max-loss-METRIC@10`` is what is lost of a labelled metric against the old collection.

    Parameters
    ----------
    figures
        By name, as ``recall@10`` and ``nDCG@10``.

    Raises
    ------
    UsageError
        If a gate needs labels or the old encoder and they were not given, or its k was not
        measured.
    """
    gates = []
    for name, threshold in thresholds.items():
        figure = _figure(name, figures, labelled)
        used = labelled_probes if name.startswith("max-loss") else probes
        gates.append(_gate(name, threshold, figure, used))
    outcomes = {gate.outcome for gate in gates}
    worst_first = (Outcome.NO_GO, Outcome.TOO_SMALL, Outcome.GO)
    outcome = next((one for one in worst_first if one in outcomes), Outcome.MEASURED)
    return Verdict(outcome=outcome, gates=gates)


def _figure(
    name: str, figures: Mapping[str, Estimate], labelled: Sequence[RouteMetric]
) -> Estimate:
    if name.startswith("min-"):
        wanted = name.removeprefix("min-")
        for figure, found in figures.items():
            if figure.lower() == wanted:
                return found
        k = wanted.partition("@")[2]
        raise UsageError(f"--{name}: the corpus is too small for k = {k}", remedy="Ask for less.")
    wanted = name.removeprefix("max-loss-")
    for metric in labelled:
        if metric.name.lower() == wanted and metric.minus_old is not None:
            change = metric.minus_old
            return Estimate(value=-change.value, low=-change.high, high=-change.low)
    raise _not_comparable(name)


def _gate(name: str, threshold: float, figure: Estimate, probes: int) -> Gate:
    if name.startswith("max"):
        passed, failed = figure.high <= threshold, figure.low > threshold
    else:
        passed, failed = figure.low >= threshold, figure.high < threshold
    more = None
    if not passed and not failed:
        # An interval's width falls with the root of the number of probes.
        below = figure.value < threshold
        reach = figure.high - figure.value if below else figure.value - figure.low
        margin = max(abs(figure.value - threshold), 1e-3)
        more = max(1, math.ceil(probes * (reach / margin) ** 2) - probes)
    outcome = Outcome.GO if passed else Outcome.NO_GO if failed else Outcome.TOO_SMALL
    return Gate(name=name, threshold=threshold, figure=figure, outcome=outcome, more_probes=more)


SIGNIFICANT = 0.05


def headline(
    population: int,
    probes: ProbeSample,
    recall: RecallFigures,
    upgrade: Upgrade,
    curve: CostCurve,
    spending: Spending,
    verdict: Verdict,
    routes: RouteComparison,
) -> list[str]:
    """Sentences, the most important first: is the new encoder better, what does translation cost,
    what does re-embedding buy, go or not."""
    lines = [_is_it_better(upgrade), *_what_it_costs(population, probes, recall)]
    lines += _what_labels_lose(upgrade.labelled)
    lines.append(_what_money_buys(curve, spending))
    lines += _verdict(verdict, routes)
    return lines


def _is_it_better(upgrade: Upgrade) -> str:
    for metric in upgrade.labelled:
        test = metric.reembedded_minus_old
        if metric.name != "nDCG@10" or test is None or metric.old is None:
            continue
        verdict = "is better" if test.difference.value > 0 else "is worse"
        if test.p_value >= SIGNIFICANT:
            verdict = "is not shown to be better"
        return (
            f"On your labels the new encoder {verdict}: nDCG@10 {metric.reembedded.value:.3f} "
            f"fully re-embedded against {metric.old.value:.3f} now (difference "
            f"{test.difference.value:+.3f}, {_interval(test.difference)}, p = {test.p_value:.2g})."
        )
    if upgrade.agreement_at_10 is not None:
        return (
            f"Without labels it cannot be told whether the new encoder is better: the two agree on "
            f"{_percent(upgrade.agreement_at_10)} of their ten nearest. Judge by the queries that "
            "they differ on."
        )
    return (
        "Whether the new encoder is better was not measured: give --old-encoder, and labels if you "
        "have some."
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
        lines.append(f"Documents as queries would have said {by.value:+.3f} ({_interval(by)}).")
    return lines


def _what_labels_lose(labelled: list[LabelledMetric]) -> list[str]:
    for metric in labelled:
        test = metric.translated_minus_old or metric.translated_minus_reembedded
        against = "today's collection" if metric.translated_minus_old else "full re-embedding"
        if metric.name == "nDCG@10":
            change = test.difference
            return [
                f"On labels the translated collection has nDCG@10 {metric.translated.value:.3f}, "
                f"{change.value:+.3f} against {against} ({_interval(change)}, "
                f"p = {test.p_value:.2g})."
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


def _verdict(verdict: Verdict, routes: RouteComparison) -> list[str]:
    lines = []
    choice, everything = routes.choice, routes.rows[-1]
    if verdict.outcome is Outcome.GO and choice is not None:
        kind = "" if routes.asked is RouteName.AUTO else f"{routes.asked} "
        because = f", and is the cheapest {kind}route that does"
        if routes.trifling and choice.kind is RouteKind.REEMBED:
            because = ""
        lines.append(
            f"Go: {_route(choice)} meets every gate with its whole interval{because}: "
            f"{_takes(choice)}."
        )
    deciding = [gate for gate in verdict.gates if gate.outcome is verdict.outcome]
    names = ", ".join(gate.name for gate in deciding)
    asked = "any route"
    if routes.asked is not RouteName.AUTO:
        asked = f"the {routes.asked} route"
    if verdict.outcome is Outcome.NO_GO:
        lines.append(f"No-go: {names} not met by {asked}.")
    if verdict.outcome is Outcome.TOO_SMALL:
        more = max(gate.more_probes or 0 for gate in deciding)
        lines.append(
            f"The sample is too small to tell {names} of {asked}: about {more:,} more probes "
            "needed."
        )
    if routes.trifling:
        lines.append(
            f"To re-embed what is left takes {_takes(everything)}: less than thinking about it "
            "costs."
        )
    return lines


def _route(route: Route) -> str:
    order = "" if route.order is None else f" in order of {route.order}"
    return f"{route_name(route)}{order}"


def _takes(route: Route) -> str:
    if not route.cost.texts:
        return "no further text is embedded until readers are switched"
    return cost(route.cost)


def _interval(change: Estimate) -> str:
    return f"95 % interval {change.low:+.3f} to {change.high:+.3f}"


def _percent(figure: Estimate) -> str:
    return f"{figure.value:.0%} (95 % interval {figure.low:.0%} to {figure.high:.0%})"
