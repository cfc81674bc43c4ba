"""Reads what several encoders share out of their options: switches, numbers and prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, TypeVar

from vecmigrate.encoders.base import EncoderRole, EncoderSpec
from vecmigrate.errors import UsageError

ENCODER_HELP = (
    "sentence-transformers model (hub name or path), openai:MODEL?base_url=URL, or vectors:FILE "
    "with ready-made vectors."
)

_Default = TypeVar("_Default", bound=float | None)


def read_flag(spec: EncoderSpec, name: str, default: bool) -> bool:
    """Read a switch, written ``true`` or ``false``.

    Raises
    ------
    UsageError
        If it is written otherwise.
    """
    value = spec.options.get(name)
    if value is None:
        return default
    if value not in ("true", "false"):
        raise _not_understood(spec, name, "true or false")
    return value == "true"


def read_count(
    spec: EncoderSpec, name: str, default: _Default, *, minimum: int = 1
) -> int | _Default:
    """Read a whole number of at least ``minimum``.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    value = spec.options.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit()) or int(value) < minimum:
        raise _not_understood(spec, name, f"a whole number of at least {minimum}")
    return int(value)


def read_number(spec: EncoderSpec, name: str, default: _Default) -> float | _Default:
    """Read a finite number above zero.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    value = spec.options.get(name)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0 < number < math.inf):
        raise _not_understood(spec, name, "a number above zero")
    return number


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is set before each text, by the role it is embedded in; "" if nothing is."""

    document: str
    query: str

    @classmethod
    def read(cls, spec: EncoderSpec, *, document: str = "", query: str = "") -> Self:
        """Read ``prompt`` and ``query_prompt``; what is not given is as the model has it."""
        return cls(
            document=spec.options.get("prompt", document),
            query=spec.options.get("query_prompt", query),
        )

    def of(self, role: EncoderRole) -> str:
        """Return the prompt of a role."""
        return self.query if role == "query" else self.document


def _not_understood(spec: EncoderSpec, name: str, expected: str) -> UsageError:
    return UsageError(
        f"{spec.text!r}: {name} is {spec.options[name]!r}", remedy=f"Write {expected}."
    )
