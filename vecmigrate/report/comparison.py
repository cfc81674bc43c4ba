"""Several dry runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AliasPath, BaseModel, Field

from vecmigrate.encoders.metered import Cost
from vecmigrate.errors import UsageError
from vecmigrate.points.ids import name_some
from vecmigrate.report.file import REPORT_JSON, load_report
from vecmigrate.report.formatting import (
    ABSENT,
    OUTCOME_NAMES,
    count,
    counted,
    estimate,
    moment,
    money,
    paired,
    route_name,
    trimmed,
)
from vecmigrate.report.schema import DryRunReport, Estimate, Outcome, PairedDifference, ProbeKind


class NotComparableWarning(UserWarning):
    """Reports whose figures do not measure the same thing."""


def _at(*path: str) -> Any:
    """Say where in a report the field is."""
    return Field(validation_alias=AliasPath(*path))


class ComparedReport(BaseModel, frozen=True):
    """What is compared of one report.

    Attributes
    ----------
    report
        The file it was read from.
    documents
        Points of the source.
    recall
        recall@k by k, all that the report has.
    labelled_ndcg_change
        nDCG@10 by labels, translated less old; None without labels or the old encoder.
    route, route_cost
        The route that was chosen, and what it takes until readers can be switched; None if none
        meets the gates, or routes were not compared.
    """

    report: str
    source: Annotated[str, _at("source", "uri")]
    documents: Annotated[int, _at("source", "count")]
    new_encoder: Annotated[str, _at("new_encoder", "name")]
    method: Annotated[str, _at("translator", "method")]
    anchors: Annotated[int, _at("translator", "anchors")]
    created_at: str
    probe_kind: Annotated[ProbeKind, _at("probes", "kind")]
    probes: Annotated[int, _at("probes", "used")]
    recall: Annotated[dict[int, Estimate], _at("recall", "at")]
    ndcg_at_10: Annotated[Estimate, _at("recall", "ndcg_at_10")]
    labelled_ndcg_change: PairedDifference | None
    texts_embedded: Annotated[int, _at("spending", "spent", "texts")]
    money: Annotated[float | None, _at("spending", "spent", "money")]
    verdict: Annotated[Outcome, _at("verdict", "outcome")]
    route: str | None
    route_cost: Cost | None

    @classmethod
    def of(cls, report: DryRunReport, path: str) -> Self:
        """What is compared of ``report``, read from ``path``."""
        change = next(
            (
                m.translated_minus_old
                for m in report.upgrade.labelled
                if m.name.lower() == "ndcg@10"
            ),
            None,
        )
        choice = None if report.routes is None else report.routes.choice
        given = {
            "report": path,
            "labelled_ndcg_change": change,
            "route": None if choice is None else route_name(choice),
            "route_cost": None if choice is None else choice.cost,
        }
        return cls.model_validate({**report.model_dump(), **given})


class Comparison(BaseModel, frozen=True):
    """Reports in the order given, and why their figures may not be comparable."""

    reports: list[ComparedReport]
    warnings: list[str]


def compare_reports(paths: Sequence[str | Path]) -> Comparison:
    """Read reports, each a ``report.json`` or its folder, and put them side by side.

    Raises
    ------
    UsageError
        If a report is given twice, or none is.
    InputError
        If one cannot be read.
    """
    if not paths:
        raise UsageError("no report was given", remedy="Name the reports to compare.")
    seen: dict[Path, str] = {}
    for path in map(Path, paths):
        file = (path / REPORT_JSON if path.is_dir() else path).resolve()
        if file in seen:
            raise UsageError(
                f"{path} and {seen[file]} are the same report", remedy="Name each report once."
            )
        seen[file] = str(path)
    compared = [ComparedReport.of(load_report(path), str(path)) for path in paths]
    return Comparison(reports=compared, warnings=list(_reasons_for_doubt(compared)))


def _reasons_for_doubt(reports: list[ComparedReport]) -> list[str]:
    doubts = []
    sources = {(report.source, report.documents): None for report in reports}
    if len(sources) > 1:
        named = [f"{trimmed(uri, 120)} ({counted(n, 'document')})" for uri, n in sources]
        doubts.append(
            "the reports are of different sources, so their figures are not comparable: "
            + name_some(named)
        )
    if len({report.probe_kind for report in reports}) > 1:
        doubts.append(
            "some reports ask logged queries and others documents, which are easier, so their "
            "figures are not comparable"
        )
    return doubts


CUTOFFS = (1, 10, 100)


def _recall_at(k: int) -> Callable[[ComparedReport, int], str]:
    return lambda report, _: estimate(report.recall.get(k))


_CELLS: dict[str, Callable[[ComparedReport, int], str]] = {
    "source": lambda report, longest: trimmed(report.source, longest),
    "new encoder": lambda report, longest: trimmed(report.new_encoder, longest),
    "method": lambda report, longest: trimmed(report.method, longest),
    "anchors": lambda report, _: count(report.anchors),
    **{f"recall@{k}": _recall_at(k) for k in CUTOFFS},
    "nDCG@10": lambda report, _: estimate(report.ndcg_at_10),
    "labelled nDCG@10, translated - old": lambda report, _: paired(report.labelled_ndcg_change),
    "verdict": lambda report, _: OUTCOME_NAMES[report.verdict],
    "route": lambda report, _: report.route or ABSENT,
    "its texts": lambda report, _: (
        ABSENT if report.route_cost is None else count(report.route_cost.texts)
    ),
    "its money": lambda report, _: (
        ABSENT if report.route_cost is None else money(report.route_cost.money)
    ),
    "texts embedded": lambda report, _: count(report.texts_embedded),
    "money": lambda report, _: money(report.money),
    "date": lambda report, _: moment(report.created_at),
}
ALL = ["no.", *(column for column in _CELLS if column != "source"), "source"]
"""Figures before what is the same for all as a rule."""
WHAT = ["no.", "source", "new encoder", "method", "anchors", "date", "verdict"]
ROUTE = ["no.", "route", "its texts", "its money"]
RECALL = ["no.", *(f"recall@{k}" for k in CUTOFFS)]
OTHERS = ["no.", "nDCG@10", "labelled nDCG@10, translated - old", "texts embedded", "money"]


def comparison_rows(
    columns: Sequence[str], reports: Sequence[ComparedReport], *, longest: int
) -> list[list[str]]:
    """Return a row of cells for each report, the first its number.

    Parameters
    ----------
    longest
        Characters that names are cut to.
    """
    return [
        [str(number), *(_CELLS[column](report, longest) for column in columns[1:])]
        for number, report in enumerate(reports, start=1)
    ]
