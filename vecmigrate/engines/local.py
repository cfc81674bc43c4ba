"""The engine of one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vecmigrate.batches import VectorBatch
from vecmigrate.engines.base import Engine, Translation
from vecmigrate.prefetch import prefetch
from vecmigrate.screening import screen
from vecmigrate.source import Source
from vecmigrate.translating import translated


class LocalEngine(Engine):
    """Reads in a thread of its own, translates in the one that asks."""

    def check(self, source: Source) -> None:
        """Any source will do."""

    @contextmanager
    def translated(self, work: Translation) -> Iterator[Iterator[VectorBatch]]:
        usable = screen(
            work.source.whole_batches(work.batch_size, cursor=work.cursor),
            work.source.describe().uri,
            work.on_bad_vector,
            work.skipped,
            absent=work.absent,
        )
        read = prefetch(work.stages.timed_reading(usable))
        yield translated(read, work.translator, work.text_field, work.stages)
