"""Values of a payload field that tell when a point changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def time_of(value: Any) -> float:
    """Return a number as it is, and an ISO 8601 time in seconds since 1970; NaN for None.

    A time without a zone is in UTC.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if value is None:
        return float("nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no time")
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_before(value: Any, since: float) -> bool:
    """Tell whether a value is before another; what is no value, or no time, is not."""
    try:
        return time_of(value) < since
    except ValueError:
        return False
