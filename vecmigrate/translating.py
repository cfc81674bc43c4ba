"""Batches through a translator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from vecmigrate.points.batch import VectorBatch, Vectors
from vecmigrate.runtime.threads import map_in_parallel
from vecmigrate.stages import StageSeconds
from vecmigrate.translators import Translator


def translated(
    batches: Iterable[VectorBatch],
    translator: Translator,
    text_field: str | None,
    stages: StageSeconds | None = None,
    *,
    transform: Callable[[Vectors], Vectors] | None = None,
    threads: int = 1,
) -> Iterator[VectorBatch]:
    """Yield the same points with translated vectors; a translator may read their texts too.

    Parameters
    ----------
    transform
        What to call in place of the translator's own, such as :func:`transform_on` returns.
    threads
        Batches to translate at once.
    """
    timed = stages or StageSeconds()
    apply = transform or translator.transform

    def translate(batch: VectorBatch) -> VectorBatch:
        with timed.timed_translating():
            # A store may read its payloads only when they are looked into.
            texts = None if translator.text_features_ is None else batch.texts(text_field)
            return batch.with_vectors(apply(translator.inputs(batch.vectors, texts)))

    if threads == 1:
        yield from map(translate, batches)
    else:
        yield from map_in_parallel(translate, batches, threads, name="translate")
