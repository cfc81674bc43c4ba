"""How much may be re-embedded, in texts or tokens, and how tokens are counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vecmigrate.encoders import Encoder
from vecmigrate.errors import UsageError

CHARACTERS_PER_TOKEN = 4
"""A common rule for English text, where the encoder's tokenizer is not at hand."""

_FORM = re.compile(r"(\d[\d_,]*) *(texts?|tokens?)?")


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound in one unit; the other is None."""

    texts: int | None = None
    tokens: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``8500``, ``8500 texts`` or ``200000 tokens``.

        Raises
        ------
        UsageError
        """
        form = _FORM.fullmatch(text.strip().lower())
        if form is None:
            raise UsageError(
                f"{text!r} is not a budget", remedy='Write "8500 texts" or "200000 tokens".'
            )
        amount = int(re.sub("[_,]", "", form[1]))
        if (form[2] or "texts").startswith("token"):
            return cls(tokens=amount)
        return cls(texts=amount)

    def __str__(self) -> str:
        return f"{self.texts:,} texts" if self.tokens is None else f"{self.tokens:,} tokens"


@runtime_checkable
class TokenCounter(Protocol):
    """What an encoder offers beyond :class:`Encoder` where its tokenizer is at hand."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens that encoding each text takes."""
        ...


def count_tokens(encoder: Encoder, texts: Sequence[str | None]) -> list[int]:
    """Tokens of each text, by the encoder's tokenizer or else by its characters."""
    plain = [text or "" for text in texts]
    if isinstance(encoder, TokenCounter):
        return encoder.count_tokens(plain)
    return [-(-len(text) // CHARACTERS_PER_TOKEN) for text in plain]
