"""A plot as a page needs it."""

from __future__ import annotations

from dataclasses import dataclass


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
        The numbers drawn, or a summary of them where they are many.
    """

    name: str
    title: str
    svg: str
    finding: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
