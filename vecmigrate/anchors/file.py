"""Anchor files: a table of ids and both vectors, its origin in the header."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from vecmigrate.anchors.strategy import Strategy
from vecmigrate.io.atomic import require_absent
from vecmigrate.io.vector_table import not_readable, read_table, write_table
from vecmigrate.points.batch import IdArray, Vectors, id_array
from vecmigrate.points.collection import EncoderIdentity, Metric

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
    """

    format_version: int = FORMAT_VERSION
    source: str
    population: int
    seed: int
    strategy: Strategy
    source_encoder: EncoderIdentity | None = None
    target_encoder: EncoderIdentity
    metric: Metric


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
