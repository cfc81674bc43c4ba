"""The engine of one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from vecmigrate.connector.source import Source
from vecmigrate.migration.engines.base import Conversion, Engine
from vecmigrate.migration.translate import convert
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.screening import screen
from vecmigrate.runtime.threads import blas_threads, one_thread_a_product, prefetch
from vecmigrate.translators.device import open_device


class LocalEngine(Engine):
    """Reads in a thread of its own, and translates in several.

    Parameters
    ----------
    workers
        Batches translated at once, a thread each; None for as many as a product of BLAS would take,
        which are the processors, or as OPENBLAS_NUM_THREADS or OMP_NUM_THREADS says. With 1, BLAS
        keeps its own threads.
    device
        Where products are made: ``cpu``, by NumPy; a device of torch, as ``cuda:1`` or ``mps``;
        None for an Nvidia or AMD GPU if there is one that torch can use.
    """

    def __init__(self, *, workers: int | None = None, device: str | None = None) -> None:
        self._workers = workers
        self._device = device

    def check(self, source: Source) -> None:
        """Any source will do, but the device has to be there."""
        open_device(self._device)

    @contextmanager
    def translated(self, work: Conversion) -> Iterator[Iterator[VectorBatch]]:
        usable = screen(
            work.source.whole_batches(work.batch_size, cursor=work.cursor),
            work.source.describe().uri,
            work.on_bad_vector,
            work.skipped,
            absent=work.absent,
        )
        device = open_device(self._device)
        if device is not None and work.converter.translates:
            work.announce(f"translating on {device}")
        workers = self._workers or work.converter.at_once or blas_threads()
        with nullcontext() if workers == 1 else one_thread_a_product():
            yield convert(
                prefetch(work.stages.timed_reading(usable)),
                work.converter.on(device),
                work.stages,
                threads=workers,
            )
