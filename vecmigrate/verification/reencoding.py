"""Compares vectors that the new encoder made with what it makes of their texts now."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from vecmigrate.connector.source import Source
from vecmigrate.encoders import Encoder, MeteredEncoder
from vecmigrate.encoders.embedded import Embedded
from vecmigrate.errors import MismatchError
from vecmigrate.evaluation.search import distances
from vecmigrate.points.batch import VectorBatch, Vectors, join_batches
from vecmigrate.points.collection import CollectionDescription, Metric
from vecmigrate.points.ids import name_some
from vecmigrate.verification.records import Check
from vecmigrate.verification.vectors import allowed_of

SAME = 0.999
"""Two answers of one encoder for one text have at least this cosine."""
_OFF = float(np.sqrt(2 * (1 - SAME)))
_TWICE = 32
"""Texts that are embedded a second time, in other company, to tell how far the encoder differs."""
_NAMED = 10


@dataclass
class Reencoding:
    """Gathers a sample of points that are the new encoder's own, and embeds their texts again.

    Parameters
    ----------
    target
        The new collection.
    text_field
        Payload field of the old collection that holds the texts.
    most
        Texts to embed, at most.

    Attributes
    ----------
    left
        Points that could not be compared: without a text, or more than are wanted.
    """

    target: Source
    encoder: MeteredEncoder
    text_field: str | None
    most: int
    left: int = 0
    _ours: list[VectorBatch] = field(default_factory=list)
    _theirs: list[VectorBatch] = field(default_factory=list)
    _taken: int = 0

    def take(self, ours: VectorBatch, theirs: VectorBatch) -> None:
        """Note points of the old collection, and the same as the new one has them."""
        texts = ours.texts(self.text_field) or [None] * len(ours)
        usable = np.array([text is not None for text in texts], np.bool_)
        if not self.encoder.needs_texts:
            usable[:] = True
        rows = np.flatnonzero(usable)[: self.most - self._taken]
        self.left += len(ours) - len(rows)
        if len(rows):
            self._taken += len(rows)
            self._ours.append(ours.take(rows))
            self._theirs.append(theirs.take(rows))

    def check(self, name: str) -> Check:
        """Embed the texts, and return what was found.

        Raises
        ------
        InputError, UnreachableError
            From the encoder.
        """
        if not self._taken:
            return Check.skipped(name, "no vector could be compared", compared=0, wrong=0)
        ours, theirs = join_batches(self._ours), join_batches(self._theirs)
        made, noise = self._embed(ours)
        cosine = self.target.describe().metric is Metric.COSINE
        off = distances(made, theirs.vectors, cosine=cosine)
        allowed = np.maximum(allowed_of(self.target, made, cosine=cosine), _OFF)
        # A NaN compares false: written so that it counts as wrong.
        wrong = ~(off <= allowed)
        worst = float(np.nan_to_num(off, nan=np.inf).max())
        told = (
            f"a sample of {len(off):,} vectors is what {self.encoder.identity.name} makes of their "
            f"texts, to {worst:.1e} of their length (the encoder differs by {noise:.1e} from one "
            "call to the next)"
        )
        if wrong.any():
            told = (
                f"{int(wrong.sum()):,} of {len(off):,} vectors are not what "
                f"{self.encoder.identity.name} makes of their texts: off by up to {worst:.2g} of "
                f"their length, ids {name_some(theirs.ids[wrong].tolist()[:_NAMED])}"
            )
        paid: dict[str, JsonValue] = {}
        if self.encoder.needs_texts:
            embedded = Embedded.of(self.encoder)
            told += f"; {embedded.line()}"
            paid = embedded.model_dump(include={"texts", "tokens", "estimated", "money"})
        return Check.of(
            name, not wrong.any(), told, compared=len(off), wrong=int(wrong.sum()),
            worst=worst if np.isfinite(worst) else None, encoder_differs=noise, left=self.left,
            **paid,
        )  # fmt: skip

    def _embed(self, batch: VectorBatch) -> tuple[Vectors, float]:
        """Return ``(n, d)`` vectors, and how far a second answer for some texts is from them."""
        texts = [text or "" for text in batch.texts(self.text_field) or [""] * len(batch)]
        order = np.argsort([-len(text) for text in texts], kind="stable")
        made = np.empty((len(batch), self.encoder.identity.dimension), np.float32)
        made[order] = self._encode(batch, texts, order)
        again = np.linspace(0, len(batch) - 1, min(_TWICE, len(batch)), dtype=np.intp)
        cosine = self.target.describe().metric is Metric.COSINE
        noise = distances(made[again], self._encode(batch, texts, again), cosine=cosine)
        return made, float(noise.max())

    def _encode(self, batch: VectorBatch, texts: list[str], rows: NDArray[np.intp]) -> Vectors:
        some = [texts[row] for row in rows] if self.encoder.needs_texts else None
        return self.encoder.encode(some, ids=batch.ids[rows])


def check_made_by(target: CollectionDescription, encoder: Encoder, *, alone: bool) -> None:
    """Raise :class:`MismatchError` unless an encoder made a collection's native vectors.

    Parameters
    ----------
    alone
        No translator is given beside it, so that all vectors are to be native.
    """
    made = target.provenance
    wanted = made.encoder if made else None
    identity = encoder.identity
    if identity.dimension != target.dimension or (
        wanted is not None and not wanted.same_as(identity)
    ):
        raise MismatchError(
            f"{target.uri} is in the space of {wanted or f'{target.dimension} dimensions'}, not of "
            f"{identity}",
            remedy="Give the encoder that it was written with.",
        )
    if alone and made is not None and made.translator_sha256 is not None:
        raise MismatchError(
            f"{target.uri} was written with a translator",
            remedy="Give the translator's file too, with --translator.",
        )
