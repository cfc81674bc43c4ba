"""Gives points the new encoder's own vectors, from their texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders import BudgetSpentError, Encoder, MeteredEncoder
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.migration.choice import Choice
from vecmigrate.migration.translate import Translation
from vecmigrate.points.batch import VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription, EncoderIdentity
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import Skipped
from vecmigrate.translators import TranslatorCard


class OnMissingText(StrEnum):
    """What to do with a point that has no text to embed."""

    FAIL = "fail"
    SKIP = "skip"
    TRANSLATE = "translate"


class StopAskedError(Exception):
    """The run is asked to end; what was embedded is kept."""


@dataclass(frozen=True, slots=True)
class Reembedding:
    """Converts by embedding texts, those of similar length together; see :class:`Converter`.

    What the encoder's store has is not embedded again.

    Attributes
    ----------
    text_field
        Payload field that holds the texts.
    skipped
        Gathers the points left out.
    progress
        Called with the number of points just done, one call at a time.
    stop
        Asked after each few texts; True ends the run.
    translation
        What gives a vector to points without a text under that policy; else None.
    choice
        Tells which points are embedded, all others being translated; None for all.
    """

    encoder: MeteredEncoder
    text_field: str | None
    on_missing: OnMissingText
    skipped: Skipped
    progress: Callable[[int], None] = lambda count: None
    stop: Callable[[], bool] = lambda: False
    translation: Translation | None = None
    choice: Choice | None = None
    _lock: Lock = field(default_factory=Lock)

    # While one batch's vectors are stored, another one's texts are embedded.
    at_once = 2
    tells_progress = True

    @property
    def dimension(self) -> int:
        return self.encoder.identity.dimension

    @property
    def translates(self) -> bool:
        return self.translation is not None

    def on(self, device: str | None) -> Reembedding:
        if self.translation is None:
            return self
        return replace(self, translation=self.translation.on(device))

    def convert(self, batch: VectorBatch) -> VectorBatch:
        """Return the points that get a vector.

        Raises
        ------
        BudgetSpentError
            If the budget does not reach for all; what it reached for is kept.
        InputError
            If a text is missing and the policy is ``fail``, or the encoder's answer is not usable.
        StopAskedError
            If ``stop`` said so.
        UnreachableError, WriteError
            From the encoder and its store.
        """
        points = len(batch)
        batch = self._with_texts(batch)
        texts = batch.texts(self.text_field) or [None] * len(batch)
        has_vector = np.array(batch.each_count()) > 0
        native = has_vector & self.can_be_embedded(batch)
        if self.choice is not None:
            native &= self.choice.chosen(batch)
        of_row = native[has_vector]
        if self.translation is None or of_row.all():
            vectors = np.empty((len(of_row), self.dimension), np.float32)
        else:
            # All of them, since the rounding of a product depends on how many rows it has.
            vectors = self.translation.convert(batch).vectors
        vectors[of_row] = self._embed(batch, texts, np.flatnonzero(native))
        self._tell(points - int(native.sum()))
        return batch.with_vectors(vectors).with_native(native)

    def can_be_embedded(self, batch: VectorBatch) -> NDArray[np.bool_]:
        """Tell which points have what the encoder needs."""
        return embeddable(self.encoder, batch, self.text_field)

    def _with_texts(self, batch: VectorBatch) -> VectorBatch:
        """Return the points that are to have a vector and can, and those that have none."""
        if self.on_missing is OnMissingText.TRANSLATE:
            return batch
        missing = (np.array(batch.each_count()) > 0) & ~self.can_be_embedded(batch)
        if not missing.any():
            return batch
        ids = batch.ids[missing].tolist()
        if self.on_missing is OnMissingText.FAIL:
            raise InputError(
                f"no text for ids {name_some(ids)}",
                remedy="Give these points a text, name the field that holds it in the URI, as "
                "?text=FIELD, or leave them out with --on-missing-text skip.",
            )
        with self._lock:
            self.skipped.ids += ids
        return batch.take(~missing)

    def _embed(
        self, batch: VectorBatch, texts: list[str | None], rows: NDArray[np.intp]
    ) -> Vectors:
        """Return ``(len(rows), d)`` vectors, made of texts in the order of their length."""
        lengths = np.array([len(texts[row] or "") for row in rows], np.int64)
        order = np.argsort(-lengths, kind="stable")
        longest_first = rows[order]
        made = self.encoder.encode(
            [texts[row] for row in longest_first],
            ids=batch.ids[longest_first],
            partly=True,
            progress=self._tell,
        )
        if len(made) < len(rows):
            raise BudgetSpentError(
                f"the budget of {self.encoder.meter.budget} is spent",
                remedy="What was embedded is kept: the same command with a larger --budget "
                "continues.",
            )
        vectors = np.empty_like(made)
        vectors[order] = made
        return vectors

    def _tell(self, count: int) -> None:
        with self._lock:
            self.progress(count)
        if self.stop():
            raise StopAskedError


def embeddable(encoder: Encoder, batch: VectorBatch, text_field: str | None) -> NDArray[np.bool_]:
    """Tell which points of a batch have what an encoder needs."""
    if not encoder.needs_texts:
        return np.ones(len(batch), np.bool_)
    texts = batch.texts(text_field) or [None] * len(batch)
    return np.array([text is not None for text in texts], np.bool_)


def check_encoder(encoder: EncoderIdentity, card: TranslatorCard | None, dimension: int) -> None:
    """Raise :class:`MismatchError` unless an encoder makes vectors of a translator's space.

    Parameters
    ----------
    dimension
        That the translator leads to.
    """
    wanted = card.target_encoder if card else None
    if encoder.dimension != dimension or (wanted is not None and not wanted.same_as(encoder)):
        raise MismatchError(
            f"the translator leads to {wanted or f'{dimension} dimensions'}, and the encoder is "
            f"{encoder}",
            remedy="Give the encoder that the anchors were embedded by.",
        )


def check_texts(source: CollectionDescription, encoder: MeteredEncoder) -> None:
    """Raise unless a collection's points can be embedded one vector each.

    Raises
    ------
    MismatchError
        If its points have several vectors each.
    InputError
        If nothing tells where their texts are.
    """
    if source.multivector:
        raise MismatchError(
            f"the points of {source.uri} have several vectors each, and an encoder makes one",
            remedy="Name another vector by ?vector=NAME.",
        )
    if encoder.needs_texts and source.text_field is None:
        raise InputError(
            f"{source.uri} has no payload field that holds texts",
            remedy="Name it in the URI, as ?text=FIELD; a FAISS index has its texts in a file "
            "beside, see docs/reference/faiss.md.",
        )
