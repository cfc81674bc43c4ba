"""``vecmigrate compare``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.output import Output
from vecmigrate.io.atomic import require_absent
from vecmigrate.report.comparison import (
    OTHERS,
    RECALL,
    ROUTE,
    WHAT,
    Comparison,
    NotComparableWarning,
    compare_reports,
    comparison_rows,
)
from vecmigrate.report.html import write_comparison

EXAMPLES = """
**Examples**

    vecmigrate compare dry-runs/mpnet dry-runs/bge --out compared.html
    vecmigrate compare dry-runs/*/report.json --json

Figures of different sources are not comparable: the command says so and shows them all the same.
"""
_LONGEST_NAME = 40


def run(
    out: Output,
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT", help="Folders that `vecmigrate dry-run` wrote, or report.json."
        ),
    ],
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Page to write.")
    ] = None,
) -> None:
    """Put the reports of several dry runs side by side: encoders, methods, dates."""
    if out_file is not None:
        require_absent(out_file)
    comparison = compare_reports(reports)
    for doubt in comparison.warnings:
        warnings.warn(doubt, NotComparableWarning, stacklevel=2)
    _show(out, comparison)
    if out_file is not None:
        write_comparison(comparison, out_file)
        out.say(f"wrote {out_file}")
    out.result(comparison.model_dump(mode="json"))


def _show(out: Output, comparison: Comparison) -> None:
    compared = comparison.reports
    for columns in (WHAT, ROUTE, RECALL, OTHERS):
        out.table(columns, comparison_rows(columns, compared, longest=_LONGEST_NAME))
