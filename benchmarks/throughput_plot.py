"""Draws ``results/throughput.json``, which throughput.py writes, as ``results/throughput.png``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
COLOURS = {"Flat to Flat": "#1f5fa8", "parquet to Flat": "#b3541e"}
TITLES = {"ridge": "linear map", "kernel-ridge": "kernel map, 2,000 landmarks"}


def draw(axes: Axes, migrations: list[dict], method: str) -> None:
    """Rates by corpus size, and dashed what a bare loop reaches."""
    for route, colour in COLOURS.items():
        mine = [m for m in migrations if m["route"] == route and m["method"] == method]
        counts = [m["count"] for m in mine]
        rates = [m["count"] / m["seconds"] / 1000 for m in mine]
        bare = [m["count"] / sum(m["floor"].values()) / 1000 for m in mine]
        axes.plot(counts, rates, "o-", color=colour, label=route)
        axes.plot(counts, bare, "x--", color=colour, alpha=0.5, label=f"{route}, a bare loop")
    axes.set(xscale="log", xlabel="vectors", title=TITLES[method])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def main() -> None:
    mpl.use("Agg")
    told = json.loads((RESULTS / "throughput.json").read_text())
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, method in ((left, "ridge"), (right, "kernel-ridge")):
        draw(axes, told["migrations"], method)
    left.set_ylabel("thousand vectors/s")
    left.legend(fontsize=8)
    figure.savefig(RESULTS / "throughput.png", dpi=130)


if __name__ == "__main__":
    main()
