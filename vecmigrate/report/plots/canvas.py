"""From a painting function to an SVG element that fits into a page."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from vecmigrate.report.schema import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes  # for the plots beside
else:
    Axes = Any  # matplotlib is loaded when something is drawn

INK = "#010101"
MUTED = "#020202"
GRID = "#030303"
PAPER = "#040404"
DOT = "#050505"
ALERT = "#060606"
LOSSES = ("#080801", "#080802", "#080803", "#080804", "#080805")
"""From no loss to all lost."""


@dataclass(frozen=True, slots=True)
class Series:
    """How one series looks: colour, marker, line."""

    colour: str
    marker: str
    line: str


ONE = Series("#070701", "o", "-")
TWO = Series("#070702", "s", "--")
THREE = Series("#070703", "^", ":")
FOUR = Series("#070704", "D", "-.")
SERIES = (ONE, TWO, THREE, FOUR)

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    DOT: "dot",
    ALERT: "alert",
    **{colour: f"loss-{step}" for step, colour in enumerate(LOSSES)},
    **{series.colour: f"series-{number}" for number, series in enumerate(SERIES, start=1)},
}
_STAND_IN = re.compile("|".join(_VARIABLES))


def series(position: int) -> Series:
    """The look of the ``position``-th of many series: sixteen differ, then they start again."""
    look = SERIES[position % len(SERIES)]
    line = SERIES[(position + position // len(SERIES)) % len(SERIES)].line
    return Series(look.colour, look.marker, line)


def themed(markup: str) -> str:
    """Put CSS variables in the place of the stand-ins."""
    return _STAND_IN.sub(lambda found: f"var(--{_VARIABLES[found[0]]})", markup)


# 360 units: on a phone a unit is about a pixel, so that text keeps its size there; page.css makes
# it smaller if the page is wide.
WIDTH_INCHES = 5.0
HEIGHT_INCHES = 3.6

# Any: matplotlib types each option's name.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vecmigrate",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 11.5,
    "axes.labelsize": 11.5,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "figure.constrained_layout.h_pad": 0.06,
}
_TAG = re.compile(r"<[^<>]*>")
_FONT_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
_REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
_ID = re.compile(r' id="([^"]*)"')


def draw(name: str, paint: Callable[[Axes], None], *, height: float = HEIGHT_INCHES) -> str:
    """Return what ``paint`` draws as an ``<svg>`` element, the same for the same facts.

    It has no size, font or ids that another drawing on the page could have, and its text is
    escaped. ``name`` makes its ids its own.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # That its font list is being made, and what its font lacks, is no user's concern: the
    # reader's own fonts are used.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        paint(figure.add_subplot())
        written = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _for_page(written.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    used = {found for _, found in _REFERENCE.findall(svg)}

    def cleaned(tag: re.Match[str]) -> str:
        text = _FONT_FAMILY.sub("", " ".join(tag[0].split()))
        text = _ID.sub(lambda i: f' id="{name}-{i[1]}"' if i[1] in used else "", text)
        text = _REFERENCE.sub(lambda r: f"{r[1].removeprefix('xlink:')}{name}-{r[2]}", text)
        return themed(text)

    # Only tags are rewritten: a text that looks like a colour or an id stays what it is.
    body = _TAG.sub(cleaned, svg)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"<g></g>|<defs></defs>", "", body)
    view_box = re.search(r'viewBox="[^"]*"', body)
    assert view_box is not None
    return body.replace(
        body[: body.index(">")], f'<svg {view_box[0]} aria-hidden="true" focusable="false"', 1
    )


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing and its two other forms, for those who do not see it.

    Parameters
    ----------
    name
        Its id on the page.
    title
        What is drawn, in a few words.
    svg
        An ``<svg>`` element without a size of its own.
    finding
        What it shows, in sentences made from the facts.
    caption
        How to read it.
    columns, rows
        The numbers drawn, or a summary of them if they are many.
    """

    name: str
    title: str
    svg: str
    finding: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


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
