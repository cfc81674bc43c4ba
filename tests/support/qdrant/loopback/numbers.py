"""Numbers and orders of the loopback server, as a real server's own."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 2**64 - 1
_SMALLEST = -(2**63)
_TENS = [float(f"1e{power}") for power in range(309)]


def read_json(body: bytes) -> Any:
    """Read a request as the server does, which gets the last bit of some doubles wrong."""
    return json.loads(body, parse_float=read_float, parse_int=_read_int)


def read_float(text: str) -> float:
    """Read a number as serde_json does without its feature ``float_roundtrip``.

    The digits are read as an integer of 64 bits, and that is multiplied or divided by a power of
    ten: two roundings, which in one of ten doubles give a neighbour.
    """
    number, _, power = text.lstrip("-").lower().partition("e")
    whole, _, fraction = number.partition(".")
    significand, read = _significand(0, whole)
    exponent = len(whole) - read
    significand, read = _significand(significand, fraction)
    exponent += int(power or 0) - read
    value = float(significand)
    while exponent < -308 and value:
        value /= 1e308
        exponent += 308
    if exponent > 308 and value:
        raise ValueError("Format error in JSON body: number out of range")
    if value:
        value = value * _TENS[exponent] if exponent >= 0 else value / _TENS[-exponent]
    return -value if text.startswith("-") else value


def _significand(start: int, digits: str) -> tuple[int, int]:
    """Append digits while they fit into 64 bits; return the number and how many were read."""
    for read, digit in enumerate(digits):
        following = start * 10 + int(digit)
        if following > _LARGEST:
            return start, read
        start = following
    return start, len(digits)


def _read_int(text: str) -> int | float:
    value = int(text)
    return value if _SMALLEST <= value <= _LARGEST else read_float(text)


def shuffled(told: Mapping[str, T]) -> dict[str, T]:
    """A map in an order of its own, as the server's hash maps are."""
    keys = list(told)
    random.shuffle(keys)
    return {key: told[key] for key in keys}
