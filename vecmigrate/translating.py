"""Batches through a translator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vecmigrate.batches import VectorBatch
from vecmigrate.stages import StageSeconds
from vecmigrate.translators import Translator


def translated(
    batches: Iterable[VectorBatch],
    translator: Translator,
    text_field: str | None,
    stages: StageSeconds | None = None,
) -> Iterator[VectorBatch]:
    """Yield the same points with translated vectors; a translator may read their texts too."""
    stages = stages or StageSeconds()
    for batch in batches:
        with stages.timed_translating():
            inputs = translator.inputs(batch.vectors, batch.texts(text_field))
            done = batch.with_vectors(translator.transform(inputs))
        yield done
