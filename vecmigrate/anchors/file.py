"""Anchor files: a table of ids and both vectors, its origin in the header."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import (
    BaseModel,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from vecmigrate.anchors.strategy import Strategy
from vecmigrate.io.atomic import require_absent
from vecmigrate.io.vector_table import not_readable, read_table, write_table
from vecmigrate.points.batch import IdArray, Vectors, id_array
from vecmigrate.points.collection import EncoderIdentity, Metric
from vecmigrate.points.ids import lookup_of
from vecmigrate.translators.mixing import lowest_direction

FORMAT_VERSION = 1
ANCHOR_FILE = "an anchor file"


class AnchorCard(BaseModel, frozen=True, extra="forbid"):
    """Where anchors come from.

    Attributes
    ----------
    source
        The collection's URI.
    population
        Points that the sample was drawn from.
    seed, strategy
        Of the choice.
    source_encoder
        The old encoder, None if not told.
    target_encoder
        The new one.
    metric
        How the collection compares vectors.
    lowest_direction
        What :func:`vecmigrate.translators.mixing.lowest_direction` said of the anchors before some
        of them were forgotten: targets that keep the others were written by it. None if none was.
    """

    format_version: int = FORMAT_VERSION
    source: str
    population: int
    seed: int
    strategy: Strategy
    source_encoder: EncoderIdentity | None = None
    target_encoder: EncoderIdentity
    metric: Metric
    lowest_direction: tuple[float, ...] | None = None

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = serialize(self)
        if self.lowest_direction is None:
            # As versions know it that had no such field.
            del told["lowest_direction"]
        return told


@dataclass(frozen=True, slots=True)
class AnchorSet:
    """Anchors in memory.

    Attributes
    ----------
    ids
        ``(n,)``.
    source_vectors, target_vectors
        ``(n, d_source)`` and ``(n, d_target)`` float32.
    card
        Where they come from.
    texts
        ``n`` of them; None if the source has none.
    """

    ids: IdArray
    source_vectors: Vectors
    target_vectors: Vectors
    card: AnchorCard
    texts: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def lowest_direction(self) -> Vectors:
        """Return the ``(d,)`` direction that translated vectors beside these are tilted to."""
        told = self.card.lowest_direction
        if told is None:
            return lowest_direction(self.target_vectors)
        return np.array(told, np.float32)

    def without(self, ids: IdArray) -> AnchorSet:
        """Return the set without some points, whose vectors others' are still tilted by."""
        stay = lookup_of(ids).rows(self.ids) < 0
        texts = self.texts
        if texts is not None:
            texts = [text for text, stays in zip(texts, stay.tolist(), strict=True) if stays]
        lowest = tuple(map(float, self.lowest_direction()))
        return AnchorSet(
            self.ids[stay],
            self.source_vectors[stay],
            self.target_vectors[stay],
            self.card.model_copy(update={"lowest_direction": lowest}),
            texts,
        )

    def sha256(self) -> str:
        """Return the hash of ids and target vectors, which is what keeping anchors depends on."""
        digest = hashlib.sha256(repr(self.ids.tolist()).encode())
        digest.update(np.ascontiguousarray(self.target_vectors).data)
        return digest.hexdigest()


def save_anchors(anchors: AnchorSet, path: Path) -> None:
    """Write an anchor file in one step.

    Raises
    ------
    TargetExistsError, WriteError
    """
    require_absent(path)
    write_anchors(anchors, path)


def write_anchors(anchors: AnchorSet, path: Path) -> None:
    """As :func:`save_anchors`, in the place of what is there."""
    columns = {
        "id": anchors.ids,
        "source_vector": anchors.source_vectors,
        "target_vector": anchors.target_vectors,
    }
    if anchors.texts is not None:
        columns["text"] = id_array(anchors.texts)
    write_table(path, columns, anchors.card)


def load_anchors(path: str | Path) -> AnchorSet:
    """Read an anchor file.

    Raises
    ------
    InputError
        If the file is missing or is no anchor file.
    """
    columns, header = read_table(Path(path), ANCHOR_FILE)
    try:
        card = AnchorCard.model_validate(header)
        texts = columns["text"].tolist() if "text" in columns else None
        return AnchorSet(
            columns["id"], columns["source_vector"], columns["target_vector"], card, texts
        )
    except (KeyError, ValidationError) as error:
        raise not_readable(path, ANCHOR_FILE, error) from error
