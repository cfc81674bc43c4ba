"""Work on items in several threads at once, its outcome in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from typing import TypeVar

from vecmigrate.waiting import unwanted_when

T = TypeVar("T")
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
