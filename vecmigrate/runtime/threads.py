"""Threads: a producer in its own, several items at once, and how many BLAS may use."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Event
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

from vecmigrate.runtime.waiting import unwanted_when

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


R = TypeVar("R")


def map_in_parallel(
    function: Callable[[T], R], items: Iterable[T], threads: int, *, name: str
) -> Iterator[R]:
    """Yield ``function(item)`` of each item, in order.

    An exception, of the function or of ``items``, is raised after what came before it was yielded.
    When the consumer stops early, what is under way is waited for, waits for a server end at once,
    and no more is begun.

    Parameters
    ----------
    items
        Asked for in the consumer's thread, as many ahead of what is yielded as there are threads.
    name
        Of the threads.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    failure: Exception | None = None
    stopped = Event()

    def work(item: T) -> R:
        with unwanted_when(stopped.is_set):
            return function(item)

    following = iter(items)
    try:
        while True:
            try:
                item = next(following)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(pool.submit(copy_context().run, work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def blas_threads() -> int:
    """Return how many threads a product takes: the processors, or as OPENBLAS_NUM_THREADS says.

    A container's share of them is heeded, which BLAS does not know. 1 where the library is not one
    whose threads can be set.
    """
    from joblib import cpu_count

    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(max(counts, default=1), int(cpu_count()))


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Have products take a thread each, in all of the process, until the context ends."""
    with threadpool_limits(1, user_api="blas"):
        yield
