"""The comparison as a page like that of a report."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.report.comparison import Comparison
from vecmigrate.report.comparison_table import ALL, all_rows
from vecmigrate.report.pages import write_page
from vecmigrate.report.plots.comparison import curves_plot, recall_at_10_plot


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path``, replacing what is there, and return it.

    Raises
    ------
    WriteError
    """
    reports = comparison.reports
    return write_page(
        path,
        "comparison.html.j2",
        {
            "comparison": comparison,
            "columns": ALL,
            "rows": all_rows(reports),
            "plots": [recall_at_10_plot(reports), curves_plot(reports)],
        },
    )
