"""Durations as people write them: ``30s``, ``5m``, ``1h30m``, ``7d``."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from vecmigrate.errors import UsageError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WRITTEN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` says; a number alone is seconds.

    Raises
    ------
    UsageError
        If it is no duration.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise UsageError(
            f"{text!r} is no duration", remedy="Write it as 30s, 5m, 1h30m, 7d, or 0 for none."
        )
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    return float(sum(float(part or 0) * size for part, size in parts))


def duration_text(seconds: float) -> str:
    """Return seconds as :func:`parse_duration` reads them, rounded to whole ones."""
    left, parts = round(seconds), []
    for unit, size in _SECONDS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _checked(text: str) -> str:
    try:
        parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return text


Duration: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""A text that :func:`parse_duration` reads, as an option's value."""
