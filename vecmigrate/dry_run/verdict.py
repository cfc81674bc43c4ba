"""Go, no-go, or too few probes to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vecmigrate.errors import ExitCode, UsageError
from vecmigrate.report.schema import (
    Estimate,
    Gate,
    LabelledMetric,
    Outcome,
    RecallFigures,
    Verdict,
)

EXIT_CODES = {
    Outcome.GO: ExitCode.OK,
    Outcome.MEASURED: ExitCode.OK,
    Outcome.NO_GO: ExitCode.NO_GO,
    Outcome.TOO_SMALL: ExitCode.TOO_SMALL,
}


def check_gates(thresholds: Mapping[str, float], *, comparable: bool) -> None:
    """Refuse gates that cannot be judged, before anything is paid for.

    Parameters
    ----------
    comparable
        True where there are labels and the old encoder.

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


def decide(
    thresholds: Mapping[str, float],
    recall: RecallFigures,
    labelled: list[LabelledMetric],
    probes: int,
    labelled_probes: int,
) -> Verdict:
    """Hold the figures against the thresholds.

    ``min-recall@K`` and ``min-ndcg@10`` are recall and nDCG against full re-embedding;
    ``max-loss-METRIC@10`` is what the translated collection loses of a labelled metric against the
    old one.

    Raises
    ------
    UsageError
        Where a gate needs labels or the old encoder and they were not given, or its k was not
        measured.
    """
    gates = []
    for name, threshold in thresholds.items():
        figure = _figure(name, recall, labelled)
        used = labelled_probes if name.startswith("max-loss") else probes
        gates.append(_gate(name, threshold, figure, used))
    outcomes = {gate.outcome for gate in gates}
    if not gates:
        outcome = Outcome.MEASURED
    elif Outcome.NO_GO in outcomes:
        outcome = Outcome.NO_GO
    elif Outcome.TOO_SMALL in outcomes:
        outcome = Outcome.TOO_SMALL
    else:
        outcome = Outcome.GO
    return Verdict(outcome=outcome, gates=gates)


def _figure(name: str, recall: RecallFigures, labelled: list[LabelledMetric]) -> Estimate:
    if name == "min-ndcg@10":
        return recall.ndcg_at_10
    if name.startswith("min-recall@"):
        k = int(name.partition("@")[2])
        if k in recall.at:
            return recall.at[k]
        raise UsageError(f"--{name}: the corpus is too small for k = {k}", remedy="Ask for less.")
    wanted = name.removeprefix("max-loss-")
    for metric in labelled:
        if metric.name.lower() == wanted and metric.translated_minus_old is not None:
            change = metric.translated_minus_old.difference
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
