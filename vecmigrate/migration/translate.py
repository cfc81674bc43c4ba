"""Batches through a translator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel, PrivateAttr

from vecmigrate.points.batch import VectorBatch, Vectors
from vecmigrate.runtime.threads import map_in_parallel
from vecmigrate.translators import Translator

T = TypeVar("T")


class StageSeconds(BaseModel):
    """Seconds in which each stage was at work; waiting for another one is not counted.

    Stages overlap: where the sum exceeds the time of the run, that is by how much they did.

    Attributes
    ----------
    reading
        From the source, and looking for bad vectors.
    translating
        While at least one thread did; 0 where another engine does it.
    writing
        To the target, until its last point; what its store does after that is not counted.
    """

    reading: float = 0.0
    translating: float = 0.0
    writing: float = 0.0

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _translators: int = 0
    _begun: float = 0.0

    def timed_reading(self, items: Iterable[T]) -> Iterator[T]:
        """Yield ``items``; what it takes to get each is reading."""
        following = iter(items)
        while True:
            begun = time.perf_counter()
            try:
                item = next(following)
            except StopIteration:
                return
            finally:
                self.reading += time.perf_counter() - begun
            yield item

    @contextmanager
    def timed_translating(self) -> Iterator[None]:
        """Count what happens in the context as translating; several threads at once count once."""
        with self._lock:
            if not self._translators:
                self._begun = time.perf_counter()
            self._translators += 1
        try:
            yield
        finally:
            with self._lock:
                self._translators -= 1
                if not self._translators:
                    self.translating += time.perf_counter() - self._begun

    @contextmanager
    def timed_writing(self) -> Iterator[None]:
        """Count what happens in the context as writing."""
        begun = time.perf_counter()
        yield
        self.writing += time.perf_counter() - begun


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
