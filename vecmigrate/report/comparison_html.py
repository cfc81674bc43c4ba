"""The comparison as a page like that of a report."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.report.comparison import Comparison
from vecmigrate.report.comparison_table import (
    OTHERS,
    RECALL,
    WHAT,
    other_rows,
    recall_rows,
    what_rows,
)
from vecmigrate.report.pages import write_page
from vecmigrate.report.plots.comparison import curves_plot, recall_at_10_plot

LONGEST_NAME = 120


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path``, replacing what is there, and return it.

    Raises
    ------
    WriteError
    """
    reports = comparison.reports
    rows = zip(
        what_rows(reports, longest=LONGEST_NAME),
        recall_rows(reports),
        other_rows(reports),
        strict=True,
    )
    return write_page(
        path,
        "comparison.html.j2",
        {
            "comparison": comparison,
            "columns": [*WHAT, *RECALL[1:], *OTHERS[1:]],
            "rows": [[*what, *recall[1:], *others[1:]] for what, recall, others in rows],
            "plots": [recall_at_10_plot(reports), curves_plot(reports)],
        },
    )
