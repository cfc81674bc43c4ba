"""How much may be re-embedded, in texts or tokens, and how tokens are counted."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from vecmigrate.encoders.base import Encoder, EncoderRole
from vecmigrate.errors import MismatchError, UsageError, WriteError
from vecmigrate.io.vector_table import read_table, write_table
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
from vecmigrate.points.collection import EncoderIdentity

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


BATCH = 256


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True)

    encoder: EncoderIdentity
    role: EncoderRole


class EmbeddingStore:
    """Encodes texts of one role, each once, in durable batches.

    Parameters
    ----------
    folder
        Where ``ROLE-NNNNNN.parquet`` are kept.
    encoder
        What encodes. Ready-made vectors cost nothing and are not stored.

    Attributes
    ----------
    reused
        Texts that this run found stored.
    timed, seconds
        Texts encoded by this run, those asked for twice included, and what that took.

    Raises
    ------
    MismatchError
        Where the folder holds another encoder's vectors.
    """

    def __init__(self, folder: Path, encoder: Encoder, role: EncoderRole) -> None:
        self._folder, self._encoder, self._role = folder, encoder, role
        self._header = _Header(encoder=encoder.identity, role=role)
        self._stored: dict[str, Vectors] = {}
        self._parts = 0
        self.reused = self.timed = 0
        self.seconds = 0.0
        for path in sorted(folder.glob(f"{role}-*.parquet")):
            columns, header = read_table(path, "a file of bought embeddings")
            found = _Header.model_validate(header)
            if not found.encoder.same_as(encoder.identity):
                raise MismatchError(
                    f"{folder} holds vectors of {found.encoder}, not of {encoder.identity}",
                    remedy="Name another folder with --out.",
                )
            self._stored.update(zip(columns["id"].tolist(), columns["vector"], strict=True))
            self._parts += 1

    def vectors(
        self,
        ids: Sequence[PointId] | IdArray,
        texts: Sequence[str | None],
        progress: Callable[[int], None] | None = None,
    ) -> Vectors:
        """Return ``(n, d)`` vectors of these texts, encoding those not stored yet.

        Raises
        ------
        InputError, UnreachableError
            From the encoder; what was encoded before stays stored.
        WriteError
        """
        ids = id_array(ids)
        if not self._encoder.needs_texts:
            return self._encoder.encode(None, ids=ids, role=self._role)
        keys = self._keys(ids, texts)
        absent = [row for row, key in enumerate(keys) if key not in self._stored]
        self.reused += len(keys) - len(absent)
        for start in range(0, len(absent), BATCH):
            rows = absent[start : start + BATCH]
            vectors = self.encode(ids[rows], [texts[row] for row in rows])
            self._keep([keys[row] for row in rows], vectors)
            if progress is not None:
                progress(len(rows))
        if not keys:
            return np.empty((0, self._encoder.identity.dimension), np.float32)
        return np.stack([self._stored[key] for key in keys])

    def encode(self, ids: IdArray, texts: Sequence[str | None]) -> Vectors:
        """Encode whatever is stored, and store nothing."""
        begun = time.perf_counter()
        wanted = [text or "" for text in texts]
        vectors = self._encoder.encode(wanted, ids=ids, role=self._role)
        self.seconds += time.perf_counter() - begun
        self.timed += len(wanted)
        return vectors

    def _keep(self, keys: list[str], vectors: Vectors) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(
                f"{self._folder} cannot be made: {error.strerror}", remedy="Check --out."
            ) from error
        path = self._folder / f"{self._role}-{self._parts:06d}.parquet"
        write_table(path, {"id": id_array(keys), "vector": vectors}, self._header)
        self._parts += 1
        self._stored.update(zip(keys, vectors, strict=True))

    def _keys(self, ids: IdArray, texts: Sequence[str | None]) -> list[str]:
        """A key of id and text: a text that changed since is another one."""
        return [
            hashlib.blake2b(f"{point!r}\0{text}".encode(), digest_size=16).hexdigest()
            for point, text in zip(ids.tolist(), texts, strict=True)
        ]
