"""From a painting function to an SVG element that fits into a page."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

from vecmigrate.report.plots.palette import GRID, INK, MUTED, PAPER, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# 360 units: on a phone a unit is about a pixel, so that text keeps its size there; page.css makes
# it smaller where the page is wide.
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
        text = _REFERENCE.sub(
            lambda r: f"{r[1].removeprefix('xlink:')}{name}-{r[2]}",
            text,
        )
        return themed(text)

    # Only tags are rewritten: a text that looks like a colour or an id stays what it is.
    body = _TAG.sub(cleaned, svg)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"<g></g>|<defs></defs>", "", body)
    view_box = re.search(r'viewBox="[^"]*"', body)
    assert view_box is not None
    return body.replace(
        body[: body.index(">")],
        f'<svg {view_box[0]} aria-hidden="true" focusable="false"',
        1,
    )
