"""``report.html``: one page for a person who decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vecmigrate.report.pages import write_page
from vecmigrate.report.plots import Plot
from vecmigrate.report.plots.calibration import cosine_histogram, decile_plot, score_plot
from vecmigrate.report.plots.cost import cheapest_finding, cost_plot
from vecmigrate.report.plots.labelled import labelled_plot
from vecmigrate.report.plots.losses import loss_histogram, loss_map
from vecmigrate.report.plots.recall import recall_plot
from vecmigrate.report.schema import DryRunReport

REPORT_HTML = "report.html"
MOST_TEXTS = 10
MOST_WORST = 20
MOST_CONTRASTS = 12


def write_html(report: DryRunReport, folder: Path) -> Path:
    """Write ``folder/report.html``, replacing an earlier one, and return its path.

    It opens from disk without a network, and stays small however long texts and samples are.

    Raises
    ------
    WriteError
    """
    return write_page(folder / REPORT_HTML, "page.html.j2", _facts(report))


def _facts(report: DryRunReport) -> dict[str, Any]:
    chosen = next((line for line in report.curve.lines if line.order == report.curve.chosen), None)
    points = list(chosen.points) if chosen else []
    if report.curve.cheapest is not None and report.curve.cheapest not in points:
        points.append(report.curve.cheapest)
    return {
        "report": report,
        "plots": _plots(report),
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
    """Every plot that there are facts for; None where there are none."""
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
