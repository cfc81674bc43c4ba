"""How figures and texts of a report are written, on a page as on a terminal."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from vecmigrate.encoders.metered import Cost, money_text
from vecmigrate.report.schema import (
    Estimate,
    Outcome,
    PairedDifference,
    Route,
    RouteComparison,
    RouteKind,
)

OUTCOME_NAMES = {outcome: outcome.value for outcome in Outcome}
OUTCOME_NAMES[Outcome.TOO_SMALL] = "too small to tell"
ABSENT = "-"


def estimate(figure: Estimate | None, form: str = ".3f") -> str:
    """``0.507 [0.484, 0.530]``, or a dash for None."""
    if figure is None:
        return ABSENT
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def signed(figure: Estimate | None) -> str:
    """``+0.012 [-0.003, +0.027]``, or a dash for None."""
    return estimate(figure, "+.3f")


def p_value(value: float) -> str:
    """``0.012``, or ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def paired(found: PairedDifference | None) -> str:
    """A difference with its interval and p-value, or a dash for None."""
    if found is None:
        return ABSENT
    p = p_value(found.p_value)
    return f"{signed(found.difference)}, p {p if p.startswith('<') else f'= {p}'}"


def count(number: int | float) -> str:
    """``30,000``."""
    return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    """``1 probe``, ``1,234 probes``; ``noun`` in the singular, with a regular plural."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def percent(share: float) -> str:
    """``12.5 %``, three digits at most."""
    return f"{100 * share:.3g} %" if share < 0.9995 else f"{100 * share:.0f} %"


def duration(hours: float | None) -> str:
    """``40 ms``, ``40 s``, ``12 min`` or ``3.4 h``; a dash for None."""
    if hours is None:
        return ABSENT
    if hours * 60 < 1:
        seconds = hours * 3600
        return f"{seconds:.0f} s" if seconds >= 1 or not seconds else f"{seconds * 1000:.0f} ms"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def money(amount: float | None) -> str:
    """``1,234.50`` in the price's own currency, small amounts to two digits; a dash for None."""
    if amount is None:
        return ABSENT
    return money_text(amount)


def cost(what: Cost) -> str:
    """Texts, tokens, and time and money if they are known."""
    parts = [counted(what.texts, "text"), counted(what.tokens, "token")]
    if what.hours is not None:
        parts.append(duration(what.hours))
    if what.money is not None:
        parts.append(f"{money(what.money)} of money")
    return ", ".join(parts)


def route_name(route: Route) -> str:
    """``translate``, ``two stages, 50``, ``re-embed 20 %``, ``re-embed all``."""
    if route.kind is RouteKind.TWO_STAGE:
        return f"two stages, {route.candidates}"
    if route.kind is RouteKind.MIXED:
        return f"re-embed {percent(route.share or 0.0)}"
    return "re-embed all" if route.kind is RouteKind.REEMBED else "translate"


LEFT_ROUTE_COLUMNS = ("route", "gates")
"""Columns of :func:`route_table` that hold no numbers."""


def route_table(
    routes: RouteComparison, *, whole: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return columns, and a row of cells for each route; what is told of none has no column.

    Parameters
    ----------
    whole
        With all labelled metrics, and all that a query takes.
    """
    rows = [_route_cells(route, routes, whole=whole) for route in routes.rows]
    columns = [name for name in rows[0] if any(row[name] != ABSENT for row in rows)]
    return columns, [[row[name] for name in columns] for row in rows]


def _route_cells(route: Route, routes: RouteComparison, *, whole: bool) -> dict[str, str]:
    cost, later, query = route.cost, route.over_horizon, route.query
    dear = None
    if later is not None and any(row.query and row.over_horizon for row in routes.rows):
        dear = short_count(later.tokens) if later.money is None else money(later.money)
    mark = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE} " if route == routes.choice else ""
    seconds = None if query is None or query.seconds is None else query.seconds / 3600
    texts = ABSENT if query is None else estimate(query.texts, ".0f")
    tokens = ABSENT if query is None else count(query.tokens)
    of_query = {"texts/query": texts}
    if whole:
        takes = (texts, tokens, duration(seconds))
        of_query = dict(
            zip(("texts a query", "tokens a query", "time a query"), takes, strict=True)
        )
    return {
        "route": f"{mark}{route_name(route)}",
        "recall@10": estimate(route.figures.get("recall@10")),
        **{
            f"labelled {m.name}": estimate(m.value)
            for m in route.labelled
            if whole or m.name == "nDCG@10"
        },
        "gates": ABSENT if route.outcome is Outcome.MEASURED else OUTCOME_NAMES[route.outcome],
        **of_query,
        "texts": count(cost.texts),
        "tokens": short_count(cost.tokens),
        "time": duration(cost.hours),
        "money": money(cost.money),
        f"in {routes.horizon_days:g} d": dear or ABSENT,
    }


def short_count(number: int) -> str:
    """``950``, ``12 k``, ``3.4 M``, ``1.2 G``."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def moment(written: str) -> str:
    """``2026-11-25 01:20 UTC`` of an ISO time; what is none stays as it is."""
    try:
        read = datetime.fromisoformat(written)
    except ValueError:
        return trimmed(written, 40)
    return read.strftime("%Y-%m-%d %H:%M %Z").strip()


def unbroken(prose: str) -> str:
    """Keep intervals, percentages, durations and p-values on one line."""
    return _TOGETHER.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), prose)


_TOGETHER = re.compile(r"\[[-+0-9., ]+\]|\d %|[pk] [<=] \d|\d (?:ms|s|min|h|[kMG])\b")


def trimmed(text: str, limit: int) -> str:
    """One line of ``text``, at most ``limit`` characters, with nothing that cannot be shown."""
    # Only so much is looked at as can be shown: a document may be a whole book.
    line = " ".join(text[: 8 * limit].split())
    cut = len(line) > limit or len(text) > 8 * limit
    if cut:
        line = line[: limit - 1].rstrip() + "…"
    hidden = {c for c in line if unicodedata.category(c) in ("Cc", "Cs")}
    return "".join("\N{REPLACEMENT CHARACTER}" if c in hidden else c for c in line)
