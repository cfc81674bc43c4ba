"""``report.html``: one page for a person who decides."""

from __future__ import annotations

from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any

from vecmigrate.io.atomic import published
from vecmigrate.report import formatting
from vecmigrate.report.comparison import ALL, Comparison, comparison_rows
from vecmigrate.report.plots.canvas import Plot
from vecmigrate.report.plots.comparison import curves_plot, recall_at_10_plot
from vecmigrate.report.plots.distributions import (
    cosine_histogram,
    decile_plot,
    loss_histogram,
    loss_map,
    score_plot,
)
from vecmigrate.report.plots.quality import cheapest_finding, cost_plot, labelled_plot, recall_plot
from vecmigrate.report.schema import DryRunReport, Outcome

REPORT_HTML = "report.html"
MOST_TEXTS = 10
MOST_WORST = 20
MOST_CONTRASTS = 12
LONGEST_NAME = 60


def write_html(report: DryRunReport, folder: Path) -> Path:
    """Write ``folder/report.html``, replacing an earlier one, and return its path.

    It opens from disk without a network, and stays small however long texts and samples are.

    Raises
    ------
    WriteError
    """
    return write_report_page(report, folder / REPORT_HTML)


def write_report_page(report: DryRunReport, path: Path) -> Path:
    """As :func:`write_html`, to any path."""
    return write_page(path, "page.html.j2", _facts(report))


def _facts(report: DryRunReport) -> dict[str, Any]:
    chosen = next((line for line in report.curve.lines if line.order == report.curve.chosen), None)
    points = list(chosen.points) if chosen else []
    if report.curve.cheapest is not None and report.curve.cheapest not in points:
        points.append(report.curve.cheapest)
    return {
        "report": report,
        "plots": _plots(report),
        "routes": None
        if report.routes is None
        else formatting.route_table(report.routes, whole=True),
        "route_texts": formatting.LEFT_ROUTE_COLUMNS,
        "cheapest": cheapest_finding(report.curve),
        "chosen": chosen,
        "cost_points": sorted(points, key=lambda point: point.share),
        "timed": report.spending.everything.hours is not None,
        "priced": report.spending.everything.money is not None,
        "most_texts": MOST_TEXTS,
        "worst": report.worst[:MOST_WORST],
        "contrasts": report.upgrade.contrasts[:MOST_CONTRASTS],
    }


def _plots(report: DryRunReport) -> dict[str, Plot | None]:
    """Every plot that there are facts for; None if there are none."""
    calibration, losses = report.calibration, report.probe_losses
    has_curve = any(line.points for line in report.curve.lines)
    return {
        "recall": recall_plot(report.recall, report.probes),
        "labelled": labelled_plot(report.upgrade.labelled) if report.upgrade.labelled else None,
        "cost": cost_plot(report.curve) if has_curve else None,
        "histogram": loss_histogram(losses) if losses else None,
        "map": loss_map(losses, report.corpus_points) if losses else None,
        "scores": score_plot(calibration.score_pairs) if calibration.score_pairs else None,
        "cosines": cosine_histogram(calibration.cosines) if calibration.cosines else None,
        "deciles": decile_plot(calibration.deciles) if calibration.deciles else None,
    }


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
            "rows": comparison_rows(ALL, reports, longest=LONGEST_NAME),
            "plots": [recall_at_10_plot(reports), curves_plot(reports)],
        },
    )


_STYLES = Path(__file__).with_name("page.css")


def write_page(path: Path, template: str, facts: dict[str, Any]) -> Path:
    """Render ``template`` of this package with ``facts`` to ``path``, and return that.

    All that is not markup of the templates or of the plots is escaped.

    Raises
    ------
    WriteError
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("vecmigrate", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(getmembers(formatting, isfunction))
    text = pages.get_template(template).render(
        **facts,
        styles=_STYLES.read_text(encoding="utf-8"),
        outcome_names=formatting.OUTCOME_NAMES,
        outcome_marks=_OUTCOME_MARKS,
    )
    with published(path) as partial:
        # A lone surrogate in a user's text is no reason to have no page.
        partial.write_text(text, encoding="utf-8", errors="replace")
    return path


_OUTCOME_MARKS = dict(zip(Outcome, "✓✗?•", strict=True))
