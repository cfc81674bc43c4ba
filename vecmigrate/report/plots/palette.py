"""Colours of the plots: stand-ins while drawing, CSS variables on the page.

One SVG serves the light and the dark theme: each stand-in is a colour that nothing else has, and
:func:`themed` puts the variable in its place. ``page.css`` gives the variables their values, after
Okabe and Ito, which colour-blind readers tell apart. A series differs from the next by marker and
line too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
