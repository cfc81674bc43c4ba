"""Keeps the anchors' true vectors in a migrated collection, beside translated ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import VectorBatch, Vectors, normalize_rows, with_fields
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, TRANSLATED
from vecmigrate.points.ids import Rows, lookup_of
from vecmigrate.translators import TranslatorCard


def used_scale(mixing_scale: float | None) -> float:
    """Return the length that translated vectors count as having: true ones' at most."""
    return min(mixing_scale or 1.0, 1.0)


_FIELDS = {True: {ORIGIN_FIELD: ENCODED}, False: {ORIGIN_FIELD: TRANSLATED}}


class AnchorKeeper:
    """Puts true vectors in the place of translations, on one scale of scores.

    Translated vectors are to count as having length ``card.mixing_scale``, s. They keep unit
    length, as a cosine collection would give it to them anyhow: each becomes
    :math:`s y + \\sqrt{1 - s^2}\\, u` with u the direction that true vectors have least of, so that
    its score with a query is s times what it was, under cosine, dot product and Euclidean distance
    alike.

    Parameters
    ----------
    text_field
        Where a point's text is: an anchor whose text is not that any more is translated.

    Attributes
    ----------
    kept : int
        True vectors put in so far.

    Raises
    ------
    MismatchError
        If the anchors are of another target encoder or dimension than the translator.
    """

    def __init__(
        self, anchors: AnchorSet, card: TranslatorCard, text_field: str | None = None
    ) -> None:
        encoder = card.target_encoder
        if (
            encoder is not None and not encoder.same_as(anchors.card.target_encoder)
        ) or anchors.target_vectors.shape[1] != card.target_dimension:
            raise MismatchError(
                f"the anchors were embedded by {anchors.card.target_encoder}, and the translator "
                f"leads to {encoder or f'{card.target_dimension} dimensions'}",
                remedy="Keep the anchors that the translator was fitted on.",
            )
        self._vectors = anchors.target_vectors
        self._lookup = lookup_of(anchors.ids)
        self._scale = np.float32(used_scale(card.mixing_scale))
        self._tilt = np.sqrt(1 - self._scale**2) * anchors.lowest_direction()
        self._texts = anchors.texts
        self._text_field = text_field
        self.kept = 0

    def mixed(self, vectors: Vectors) -> Vectors:
        """Return ``(n, d)`` translated vectors as they are to stand beside true ones."""
        if self._scale < 1:
            vectors = vectors * self._scale + self._tilt
            normalize_rows(vectors)
        return vectors

    def _has_its_text(self, batch: VectorBatch, rows: Rows) -> NDArray[np.bool_]:
        """Tell which points have the text that their anchor was embedded from, or none known."""
        same = np.ones(len(batch), dtype=np.bool_)
        known = np.flatnonzero(rows >= 0)
        texts = None if self._texts is None else batch.take(known).texts(self._text_field)
        if self._texts is None or texts is None:
            return same
        for at, text in zip(known, texts, strict=True):
            embedded = self._texts[rows[at]]
            same[at] = not embedded or embedded == text
        return same

    def knows(self, batch: VectorBatch) -> NDArray[np.bool_]:
        """Tell which points are anchors whose true vector is kept."""
        rows = self._lookup.rows(batch.ids)
        return (rows >= 0) & self._has_its_text(batch, rows) & _has_one(batch)

    def apply(self, batches: Iterable[VectorBatch]) -> Iterator[VectorBatch]:
        """Yield translated batches with the anchors' true vectors, and each point's origin.

        A point without a vector, or with the new encoder's own, keeps what it has.
        """
        for batch in batches:
            vectors, known = self.mixed(batch.vectors), self.knows(batch)
            native = np.zeros(len(batch), np.bool_) if batch.native is None else batch.native
            owners = batch.owners()
            if known.any() or native.any():
                vectors = vectors if self._scale < 1 else vectors.copy()
                own = native[owners]
                vectors[own] = batch.vectors[own]
                rows = self._lookup.rows(batch.ids)
                vectors[known[owners]] = self._vectors[rows[known]]
                self.kept += int(known.sum())
            yield marked(batch.with_vectors(vectors), known | native)


def marked(batch: VectorBatch, native: NDArray[np.bool_]) -> VectorBatch:
    """Return points whose payloads, where they have a vector, tell whether it is the encoder's."""
    payloads = [
        with_fields(payload, _FIELDS[is_native]) if has else payload
        for payload, is_native, has in zip(
            batch.each_payload(), native.tolist(), _has_one(batch).tolist(), strict=True
        )
    ]
    return batch.with_payloads(payloads).with_native(native)


def _has_one(batch: VectorBatch) -> NDArray[np.bool_]:
    return np.ones(len(batch), np.bool_) if batch.counts is None else batch.counts == 1
