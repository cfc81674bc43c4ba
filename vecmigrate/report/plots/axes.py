"""What several plots draw alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vecmigrate.report.plots.palette import INK, PAPER, Series
from vecmigrate.report.schema import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def line_with_band(
    axes: Axes, xs: Sequence[float], figures: Sequence[Estimate], look: Series, label: str
) -> None:
    """A line through the figures, their intervals as a band."""
    lows, highs = [f.low for f in figures], [f.high for f in figures]
    axes.fill_between(xs, lows, highs, color=look.colour, alpha=0.16, linewidth=0)
    axes.plot(
        xs,
        [f.value for f in figures],
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        markeredgecolor=PAPER,
        markeredgewidth=0.8,
        label=label,
    )


def dot_with_interval(axes: Axes, figure: Estimate, y: float, look: Series, label: str) -> None:
    """A figure as a marker at height ``y``, its interval as a bar."""
    axes.plot([figure.low, figure.high], [y, y], color=look.colour, linewidth=2)
    axes.plot(
        [figure.value], [y], color=look.colour, marker=look.marker, linestyle="none",
        markersize=7, markeredgecolor=PAPER, markeredgewidth=0.8, label=label,
    )  # fmt: skip


def mark_mean(axes: Axes, mean: float) -> None:
    """A dashed upright line over bars, set off from them in both themes."""
    axes.axvline(mean, color=PAPER, linewidth=4)
    axes.axvline(mean, color=INK, linestyle="--", linewidth=1.4, label=f"mean {mean:.3f}")


def recall_by_k(axes: Axes, cutoffs: Sequence[int]) -> None:
    """Scales and names of recall@k, upwards, against k."""
    axes.set_xscale("log")
    axes.set_xticks(cutoffs, [str(k) for k in cutoffs])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("k, neighbours asked for")
    axes.set_ylabel("recall@k")


def legend_above(axes: Axes, columns: int) -> None:
    """A legend that covers no data."""
    figure = axes.get_figure()
    assert figure is not None
    handles, labels = axes.get_legend_handles_labels()
    # Each label once, though a series may have been drawn in parts.
    once = dict(zip(labels, handles, strict=True))
    figure.legend(
        list(once.values()), list(once), loc="outside upper left", ncols=columns, borderaxespad=0
    )
