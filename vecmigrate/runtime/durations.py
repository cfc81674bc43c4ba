"""Durations as people write them: ``30s``, ``5m``, ``1h30m``."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from vecmigrate.errors import UsageError

_SECONDS = {"h": 3600, "m": 60, "s": 1}
_WRITTEN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", re.ASCII)


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
            f"{text!r} is no duration", remedy="Write it as 30s, 5m, 1h30m, or 0 for none."
        )
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * _SECONDS["h"] + minutes * _SECONDS["m"] + seconds


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
