"""A report without some documents."""

from __future__ import annotations

from vecmigrate.points.batch import PointId
from vecmigrate.report.schema import DocumentText, DryRunReport, ProbeKind


def without_documents(
    report: DryRunReport, ids: frozenset[PointId]
) -> tuple[DryRunReport, frozenset[PointId]]:
    """Return a report without some documents, and which of them it held.

    Figures stay as they were measured. If the probes are documents too, what is told of one of
    these goes; queries of a log have ids of their own.
    """
    held: set[PointId] = set()
    are_documents = report.probes.kind is ProbeKind.DOCUMENTS

    def stays(point: PointId, *, is_document: bool = True) -> bool:
        if is_document and point in ids:
            held.add(point)
            return False
        return True

    def shown(documents: list[DocumentText]) -> list[DocumentText]:
        return [each for each in documents if stays(each.id)]

    upgrade = report.upgrade
    contrasts = [
        each.model_copy(update={"old": shown(each.old), "new": shown(each.new)})
        for each in upgrade.contrasts
        if stays(each.id, is_document=are_documents)
    ]
    unknown = [each for each in upgrade.unknown_labels if stays(each)]
    worst = [
        each.model_copy(update={"lost": shown(each.lost), "gained": shown(each.gained)})
        for each in report.worst
        if stays(each.id, is_document=are_documents)
    ]
    losses = [each for each in report.probe_losses if stays(each.id, is_document=are_documents)]
    told = {"contrasts": contrasts, "unknown_labels": unknown}
    left = report.model_copy(
        update={
            "upgrade": upgrade.model_copy(update=told),
            "worst": worst,
            "probe_losses": losses,
        }
    )
    return left, frozenset(held)
