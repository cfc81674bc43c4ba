"""Runs a producer in its own thread, so that reading, translating and writing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from vecmigrate.waiting import unwanted_when

T = TypeVar("T")

_POLL_SECONDS = 0.1


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield ``items`` in order, produced in another thread at most ``depth`` ahead.

    The producer's exception is raised here, after what it had yielded. When the consumer stops
    early, the producer stops at its next item, or at once if it waits for a server.
    """
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(entry, timeout=_POLL_SECONDS)
                return

    def produce() -> None:
        try:
            with unwanted_when(stopped.is_set):
                for item in items:
                    put((item,))
                    if stopped.is_set():
                        return
            put(None)
        except BaseException as error:
            put(error)

    producer = threading.Thread(
        target=copy_context().run, args=(produce,), name="prefetch", daemon=True
    )
    producer.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stopped.set()
        producer.join()
