"""Pages of a server read several at a time, and yielded in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from qdrant_client import models

from vecmigrate.connector import PointId

Records: TypeAlias = Sequence[models.Record]


def read_in_parallel(
    plan: Iterable[tuple[Sequence[PointId], PointId | None]],
    read: Callable[[Sequence[PointId]], Records],
    readers: int,
) -> Iterator[tuple[Records, PointId | None]]:
    """Yield the records of each page of a plan.

    Parameters
    ----------
    plan
        The ids of each page, and that which comes next: cheap to get, without vectors.
    read
        Gets the points with these ids; called in several threads.
    readers
        How many pages to read at once; as many more are held until they are asked for.
    """
    waiting: deque[tuple[Future[Records], Sequence[PointId], PointId | None]] = deque()
    pool = ThreadPoolExecutor(readers, thread_name_prefix="qdrant-reader")

    def first() -> tuple[Records, PointId | None]:
        future, ids, following = waiting.popleft()
        return _in_order(future.result(), ids), following

    try:
        for ids, following in plan:
            waiting.append((pool.submit(read, ids), ids, following))
            if len(waiting) > readers:
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(records: Records, ids: Sequence[PointId]) -> Records:
    """A server gives points that are asked for by id in an order of its own."""
    found = {str(record.id): record for record in records}
    # A point that was deleted since the plan was made is not there.
    return [found[str(i)] for i in ids if str(i) in found]
