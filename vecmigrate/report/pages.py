"""Self-contained HTML pages from templates: no file, font, script or network beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vecmigrate.io.atomic import published
from vecmigrate.report import formatting
from vecmigrate.report.schema import Outcome

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
    for name in (
        "cost",
        "count",
        "counted",
        "duration",
        "estimate",
        "moment",
        "money",
        "p_value",
        "paired",
        "percent",
        "signed",
        "trimmed",
        "unbroken",
    ):
        pages.filters[name] = getattr(formatting, name)
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


_OUTCOME_MARKS = {
    Outcome.GO: "✓",
    Outcome.NO_GO: "✗",
    Outcome.TOO_SMALL: "?",
    Outcome.MEASURED: "•",
}
