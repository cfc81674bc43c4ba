"""What turns batches of old vectors into new ones, and how long each stage of that takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, PrivateAttr

from vecmigrate.points.batch import PointId, VectorBatch, Vectors
from vecmigrate.points.checksums import source_hashes
from vecmigrate.points.screening import Skipped
from vecmigrate.runtime.threads import map_in_parallel
from vecmigrate.translators import Translator
from vecmigrate.translators.device import transform_on

T = TypeVar("T")


class StageSeconds(BaseModel):
    """Seconds in which each stage was at work; waiting for another one is not counted.

    Stages overlap: if the sum exceeds the time of the run, that is by how much they did.

    Attributes
    ----------
    reading
        From the source, and looking for bad vectors.
    translating
        While at least one thread did; 0 if another engine does it.
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


class Converter(Protocol):
    """What gives points their new vectors.

    Attributes
    ----------
    dimension
        That of the new vectors.
    translates
        True if old vectors are mapped, on a device if there is one.
    at_once
        Batches that are best converted at once; None for as many as there are processors.
    tells_progress
        True if it tells of points as they are converted.
    """

    @property
    def dimension(self) -> int: ...

    @property
    def translates(self) -> bool: ...

    @property
    def at_once(self) -> int | None: ...

    @property
    def tells_progress(self) -> bool: ...

    def convert(self, batch: VectorBatch) -> VectorBatch:
        """Return the same points with new vectors, ``(n, dimension)`` float32.

        Without those that are to be left out, which are noted.
        """
        ...

    def on(self, device: str | None) -> Converter:
        """Return what does the same on a device of torch; None for the processor."""
        ...

    def for_workers(self) -> WorkerConverter:
        """Return what workers of other processes are sent.

        Raises
        ------
        UsageError
            If they cannot do it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Spent:
    """What was bought for a partition, which the name of its file tells from others.

    Attributes
    ----------
    refused
        Points whose texts the encoder did not take.
    """

    part: str = ""
    texts: int = 0
    tokens: int = 0
    refused: tuple[PointId, ...] = ()


class WorkerConverter(Protocol):
    """What gives the points of a partition their new vectors, in a worker's process.

    Attributes
    ----------
    embeds
        True if it embeds texts: a partition then takes a while, and a GPU is of use.
    """

    @property
    def embeds(self) -> bool: ...

    def opened(
        self, part: Path, skipped: Skipped, stop: Callable[[], bool]
    ) -> AbstractContextManager[tuple[Converter, Callable[[], Spent]]]:
        """Return a context with what converts one partition, and what tells what it has spent.

        Parameters
        ----------
        part
            The file that the partition becomes; beside it is kept what it has bought so far.
        skipped
            Gathers the points left out.
        stop
            True ends it by :class:`StopAskedError`.
        """
        ...


class StopAskedError(Exception):
    """The run is asked to end; what was embedded is kept."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Converts by a translator, which may read the points' texts too.

    Attributes
    ----------
    text_field
        Payload field that holds the texts.
    transform
        What to call in place of the translator's own; see :func:`transform_on`.
    """

    translator: Translator
    text_field: str | None = None
    transform: Callable[[Vectors], Vectors] | None = None

    translates = True
    at_once = None
    tells_progress = False

    @property
    def dimension(self) -> int:
        return self.translator.target_dim_

    def convert(self, batch: VectorBatch) -> VectorBatch:
        apply = self.transform or self.translator.transform
        return batch.with_vectors(apply(self.inputs(batch)))

    def inputs(self, batch: VectorBatch) -> Vectors:
        """Return what the translator takes of points: their vectors, and features of texts."""
        # A store may read its payloads only when they are looked into.
        reads_texts = self.translator.text_features_ is not None
        texts = batch.texts(self.text_field) if reads_texts else None
        return self.translator.inputs(batch.vectors, texts)

    def on(self, device: str | None) -> Translation:
        return replace(self, transform=transform_on(self.translator, device))

    embeds = False

    def for_workers(self) -> Translation:
        return self

    def opened(
        self, part: Path, skipped: Skipped, stop: Callable[[], bool]
    ) -> AbstractContextManager[tuple[Converter, Callable[[], Spent]]]:
        return nullcontext((self, Spent))


@dataclass(frozen=True, slots=True)
class HashingConverter:
    """Converts as another one does, and adds the hashes of what was read, for the ledger.

    Attributes
    ----------
    fields
        If a vector is added in place: the payload fields that count; None if all of a point does.
    """

    converter: Converter
    fields: tuple[str, ...] | None = None

    @property
    def dimension(self) -> int:
        return self.converter.dimension

    @property
    def translates(self) -> bool:
        return self.converter.translates

    @property
    def at_once(self) -> int | None:
        return self.converter.at_once

    @property
    def tells_progress(self) -> bool:
        return self.converter.tells_progress

    def convert(self, batch: VectorBatch) -> VectorBatch:
        counts = batch if self.fields is None else batch.with_fields_alone(self.fields)
        return self.converter.convert(batch.with_read_hashes(source_hashes(counts)))

    def on(self, device: str | None) -> HashingConverter:
        return replace(self, converter=self.converter.on(device))

    def for_workers(self) -> HashingWorker:
        return HashingWorker(self.converter.for_workers(), self.fields)


@dataclass(frozen=True, slots=True)
class HashingWorker:
    """What workers are sent of a :class:`HashingConverter`."""

    worker: WorkerConverter
    fields: tuple[str, ...] | None = None

    @property
    def embeds(self) -> bool:
        return self.worker.embeds

    @contextmanager
    def opened(
        self, part: Path, skipped: Skipped, stop: Callable[[], bool]
    ) -> Iterator[tuple[Converter, Callable[[], Spent]]]:
        with self.worker.opened(part, skipped, stop) as (converter, spent):
            yield HashingConverter(converter, self.fields), spent


def convert(
    batches: Iterable[VectorBatch],
    converter: Converter,
    stages: StageSeconds | None = None,
    *,
    threads: int = 1,
) -> Iterator[VectorBatch]:
    """Yield the same points with new vectors, ``threads`` batches converted at once."""
    timed = stages or StageSeconds()

    def one(batch: VectorBatch) -> VectorBatch:
        with timed.timed_translating():
            return converter.convert(batch)

    if threads == 1:
        yield from map(one, batches)
    else:
        yield from map_in_parallel(one, batches, threads, name="translate")
