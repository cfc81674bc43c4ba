"""Threads: a producer in its own, several items at once, and how many BLAS may use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from contextvars import Context, copy_context
from functools import partial
from itertools import repeat
from threading import Event, Lock
from typing import Final, TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

from vecmigrate.runtime.waiting import unwanted_when

T = TypeVar("T")
R = TypeVar("R")


class _End:
    """Stands for the end of what is produced."""


_END: Final = _End()


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield ``items`` in order, produced in another thread.

    At most ``depth`` of them are ready, beside the one that is being produced. The producer's
    exception is raised here, after what it had yielded. When the consumer stops early, the producer
    stops at its next item, or at once if it waits for a server.
    """
    # One for all items: what a generator sets in its context, it finds there again.
    context = copy_context()
    produce = partial[T | _End](next, iter(items), _END)
    with closing(_ahead(repeat(produce), 1, depth + 1, "prefetch", lambda: context)) as ready:
        for item in ready:
            if isinstance(item, _End):
                return
            yield item


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
    calls = (partial(function, item) for item in items)
    return _ahead(calls, threads, threads, name, copy_context)


def _ahead(
    calls: Iterable[Callable[[], R]],
    threads: int,
    ahead: int,
    name: str,
    context: Callable[[], Context],
) -> Generator[R, None, None]:
    """Yield what the calls return, in order, made in threads up to ``ahead`` of the consumer."""
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    failure: Exception | None = None
    stopped = Event()

    def work(call: Callable[[], R]) -> R:
        with unwanted_when(stopped.is_set):
            return call()

    following = iter(calls)
    try:
        while True:
            try:
                call = next(following)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(pool.submit(context().run, work, call))
            if len(waiting) > ahead:
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

    A container's share of them is heeded, which BLAS does not know. 1 if the library is not one
    whose threads can be set.
    """
    from joblib import cpu_count

    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(max(counts, default=1), int(cpu_count()))


class _Limit:
    """The bound on BLAS's threads, which is the process's, as long as anybody wants it."""

    def __init__(self) -> None:
        self._lock, self._wanted_by = Lock(), 0
        self._set: threadpool_limits | None = None

    @contextmanager
    def wanted(self) -> Iterator[None]:
        with self._lock:
            self._wanted_by += 1
            self._set = self._set or threadpool_limits(1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._wanted_by -= 1
                if self._set is not None and not self._wanted_by:
                    self._set.restore_original_limits()
                    self._set = None


_LIMIT = _Limit()


def one_thread_a_product() -> AbstractContextManager[None]:
    """Have products take a thread each, in all of the process, until the context ends.

    Threads may share it, and it may be nested.
    """
    return _LIMIT.wanted()
