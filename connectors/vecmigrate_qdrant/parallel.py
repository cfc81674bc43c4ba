"""Pages of a server read several at a time, and yielded in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from qdrant_client import models

from vecmigrate.connector import PointId, map_in_parallel

Records: TypeAlias = Sequence[models.Record]
Page: TypeAlias = tuple[Sequence[PointId], PointId | None]


def read_in_parallel(
    plan: Iterable[Page], read: Callable[[Sequence[PointId]], Records], readers: int
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

    def read_page(page: Page) -> tuple[Records, PointId | None]:
        ids, following = page
        return _in_order(read(ids), ids), following

    yield from map_in_parallel(read_page, plan, readers, name="qdrant-reader")


def _in_order(records: Records, ids: Sequence[PointId]) -> Records:
    """A server gives points that are asked for by id in an order of its own."""
    found = {str(record.id): record for record in records}
    # A point that was deleted since the plan was made is not there.
    return [found[str(i)] for i in ids if str(i) in found]
