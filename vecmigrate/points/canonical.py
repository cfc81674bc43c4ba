"""Payloads as JSON, one form of what stores give in any order, and floats that are near enough."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import JsonValue

from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import Payload, PointId

_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=dict).encode


def canonical_text(value: Any) -> str:
    """Return a JSON-like value as one text, whatever the order of its mappings' keys."""
    return _canonical_json(value)


def payload_json(payload: Payload, point_id: PointId) -> str:
    """Return a payload as JSON that UTF-8 can hold: a lone surrogate is escaped.

    Raises
    ------
    MismatchError
        If the payload is not JSON; names the point.
    """
    try:
        text = json.dumps(payload, ensure_ascii=False, default=dict)
    except (TypeError, ValueError) as error:
        raise MismatchError(
            f"the payload of {point_id} is not JSON: {error}",
            remedy="Leave the field out or turn it into text.",
        ) from error
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(payload, default=dict)
    return text


def canonical_setting(value: JsonValue) -> JsonValue:
    """Return a setting as one value, however a store told it.

    Neither the order of keys nor that of a list counts, and a float is what is left of it as
    float32: by one interface a server gives 0.99, by another 0.9900000095.
    """
    if isinstance(value, dict):
        return {name: canonical_setting(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return sorted(map(canonical_setting, value), key=canonical_text)
    return float32_setting(value) if isinstance(value, float) else value


def float32_setting(value: float) -> float:
    """Return the shortest number that is the same as ``value`` in float32."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))


_ARROW_TIME = re.compile(
    r"(?:(-?\d{4,}-\d\d-\d\d) )?(\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d{4})?", re.ASCII
)


def iso_time(text: str) -> str:
    """Return a time of day or a timestamp, as Arrow spells it, in ISO 8601 as Python spells it.

    ``2026-01-02 03:04:05.250000000+0100`` becomes ``2026-01-02T03:04:05.250000+01:00``. No
    fraction is left if it is zero, nine digits if six lose some. Other text stays as it is.
    """
    found = _ARROW_TIME.fullmatch(text)
    if found is None:
        return text
    day, clock, digits, zone = found.groups()
    digits = (digits or "").rstrip("0")
    if digits:
        clock += "." + digits.ljust(6 if len(digits) <= 6 else 9, "0")
    if zone:
        clock += "+00:00" if zone == "Z" else f"{zone[:3]}:{zone[3:]}"
    return clock if day is None else f"{day}T{clock}"


def same_within(ours: Any, theirs: Any, ulps: int) -> bool:
    """Tell whether two JSON-like values are equal, floats to some units in the last place.

    Parameters
    ----------
    ulps
        How many doubles apart two finite floats may be; the sign of zero does not count. What is
        not finite is the same as itself alone.

    What was written before times and NaN were read from columns by one rule is the same as what
    is read now: see :func:`iso_time`; and null is what NaN was.
    """
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or _are_near(ours, theirs, ulps)
    if isinstance(ours, float) and theirs is None:
        return bool(np.isnan(ours))
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours == theirs or ours == iso_time(theirs)
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, str | int | float) or ours is None:
        return type(ours) is type(theirs) and bool(ours == theirs)
    if isinstance(ours, list | tuple):
        return (
            isinstance(theirs, list | tuple)
            and len(ours) == len(theirs)
            and all(same_within(o, t, ulps) for o, t in zip(ours, theirs, strict=True))
        )
    if not hasattr(ours, "keys") or not hasattr(theirs, "keys"):
        return bool(ours == theirs)
    return ours.keys() == theirs.keys() and all(same_within(ours[k], theirs[k], ulps) for k in ours)


def _are_near(ours: float, theirs: float, ulps: int) -> bool:
    if not (np.isfinite(ours) and np.isfinite(theirs)):
        return bool(np.isnan(ours) and np.isnan(theirs))
    return abs(_place(ours) - _place(theirs)) <= ulps


def _place(value: float) -> int:
    """Return a finite double's number among all doubles, both zeros being 0."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    place: int = bits if bits >= 0 else -(2**63) - bits
    return place


def has_floats(value: Any) -> bool:
    """True if a payload, or a part of one, has a number that a store may change."""
    if isinstance(value, Mapping):
        return any(map(has_floats, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_floats, value))
    return isinstance(value, float)
