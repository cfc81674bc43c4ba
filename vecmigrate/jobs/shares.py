"""The share of points that a dry run found to reach a recall."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.errors import UsageError
from vecmigrate.migration import MigrateOptions
from vecmigrate.report.file import REPORT_JSON, load_report


def with_measured_share(options: MigrateOptions, translator: Path | None) -> MigrateOptions:
    """Return the options with a share of the points in the place of a recall that it is to reach.

    The dry run that the translator is from tells it: the least share on the curve of the order
    asked for, if all of the recall's interval is as good.

    Raises
    ------
    UsageError
        If that dry run is not beside the translator, or no share reaches the recall.
    InputError
        If its report cannot be read.
    """
    share = options.native_share
    if share is None or share.recall is None:
        return options
    report = None if translator is None else translator.parent / REPORT_JSON
    measured = load_report(report) if report is not None and report.exists() else None
    if measured is None or translator is None or measured.translator.file != translator.name:
        raise UsageError(
            f"--reembed {share} needs the report of the dry run that {translator} is from, and it "
            "is not beside it",
            remedy="Name the translator in a dry run's folder, or give a share, as 20%.",
        )
    lines = {line.order: line.points for line in measured.curve.lines}
    points = lines.get(options.order, [])
    for point in points:
        if point.recall_at_10.low >= share.recall:
            return options.model_copy(update={"reembed": f"{100 * point.share:g}%"})
    raise UsageError(
        f"no share of {report} reaches a recall@10 of {share.recall:g} by order {options.order}",
        remedy="Lower it, or leave --reembed and --translator out to embed all points.",
    )
