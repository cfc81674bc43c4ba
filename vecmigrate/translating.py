"""Batches through a translator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vecmigrate.batches import VectorBatch
from vecmigrate.translators import Translator


def translated(
    batches: Iterable[VectorBatch], translator: Translator, text_field: str | None
) -> Iterator[VectorBatch]:
    """Yield the same points with translated vectors; a translator may read their texts too."""
    for batch in batches:
        inputs = translator.inputs(batch.vectors, batch.texts(text_field))
        yield batch.with_vectors(translator.transform(inputs))
