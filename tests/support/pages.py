"""Pages of the reports of :mod:`reports`, each written once for all test files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from support.reports import full_report, hostile_report, minimal_report
from vecmigrate.report.comparison import compare_reports
from vecmigrate.report.file import save_report
from vecmigrate.report.html import write_comparison, write_html

SHAPES = {"full": full_report, "minimal": minimal_report, "hostile": hostile_report}

_kept = TemporaryDirectory(prefix="vecmigrate-pages-")


@cache
def page_of(shape: str) -> Path:
    """The report's page, alone in its folder; not to be changed."""
    folder = Path(_kept.name) / shape
    folder.mkdir()
    return write_html(SHAPES[shape](), folder)


@cache
def comparison_page() -> Path:
    """The page that compares all shapes."""
    folders = []
    for shape, make in SHAPES.items():
        folders.append(Path(_kept.name) / f"compared-{shape}")
        folders[-1].mkdir()
        save_report(make(), folders[-1])
    return write_comparison(compare_reports(folders), Path(_kept.name) / "comparison.html")
