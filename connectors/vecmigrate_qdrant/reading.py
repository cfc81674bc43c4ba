"""Reads the points of a collection in a stable order, and goes on after any batch."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from vecmigrate.connector import (
    IdArray,
    PointId,
    UsageError,
    VectorBatch,
    id_array,
    join_batches,
    map_in_parallel,
)
from vecmigrate_qdrant.ids import id_of_json
from vecmigrate_qdrant.limits import Limits
from vecmigrate_qdrant.points import IDS_ALONE, Only, Page, Points, ShardKey, Wanted
from vecmigrate_qdrant.shard_keys import by_key, spell_ids

# A page of ids alone costs embedded storage one pass over the collection, whatever the page's size.
EMBEDDED_ID_PAGE = 50_000

NONE = np.array([], np.intp)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads a collection: by shard keys if it has them, and in the order of the ids.

    A batch's cursor is the JSON of the id that comes next, null at the end; with shard keys of the
    key and that id, which is null at a key's beginning.

    Attributes
    ----------
    keys
        The shard keys in their order, None without custom sharding.
    if
        The collection, for messages.
    embedded
        True if each scroll is a pass over all points.
    readers
        How many requests read at once.
    limits
        What a request may ask for.
    """

    points: Points
    keys: Sequence[ShardKey] | None
    where: str
    embedded: bool = False
    readers: int = 1
    limits: Limits = field(default_factory=Limits)

    def batches(self, size: int, cursor: str | None, wanted: Wanted) -> Iterator[VectorBatch]:
        """Yield the points after a cursor, ``size`` at a time at most, or as the limits allow.

        Raises
        ------
        UsageError
            If the cursor is not one of this collection's.
        """
        size = self.limits.page_size(size)
        for key, first in self._beginnings(cursor):
            for page in self._pages(size, first, wanted, key):
                yield self._told(page, key)

    def those(self, only: Only | None, size: int, wanted: Wanted) -> Iterator[VectorBatch]:
        """Yield some of the points, or all with None, without cursors."""
        size = self.limits.page_size(size)
        for key, _ in self._beginnings(None):
            for page in self._scrolled(size, None, wanted, key, only):
                yield self._spelled(page.batch, key)

    def ids(self, size: int) -> Iterator[IdArray]:
        """Yield the ids of all points."""
        if self.embedded:
            remaining = self._embedded_ids()
            while listed := list(islice(remaining, size)):
                yield id_array(listed)
            return
        for batch in self.those(None, size, IDS_ALONE):
            yield batch.ids

    def partitions(self, size: int, batches: int, cursor: str | None) -> Iterator[str]:
        """Yield tokens of ranges of about ``batches`` batches; raises as :meth:`batches`."""
        size = self.limits.page_size(size)
        for key, first in self._beginnings(cursor):
            pages = self._scrolled(size, first, IDS_ALONE, key)
            firsts = (page.batch.ids[:1].tolist()[0] for page in pages)
            yield from partition_tokens(firsts, batches, key)

    def partition_batches(self, token: str, size: int, wanted: Wanted) -> Iterator[VectorBatch]:
        """Yield the points of a range.

        Raises
        ------
        UsageError
            If the token is not one of this collection's.
        """
        asked = read_token(token, self.where, keyed=self.keys is not None)
        pages = self._scrolled(self.limits.page_size(size), asked.first, wanted, asked.key)
        for page in _until(asked, pages):
            yield self._told(page, asked.key)

    def fetch(self, ids: Iterable[PointId], size: int, wanted: Wanted) -> list[VectorBatch]:
        """Read the points that are there of ids in this collection's spelling, in any order."""
        grouped = {None: list(ids)} if self.keys is None else by_key(ids)
        size = self.limits.page_size(size)
        return [
            self._spelled(self._read(mine[start : start + size], wanted, key), key)
            for key, mine in grouped.items()
            for start in range(0, len(mine), size)
        ]

    def _read(self, ids: Sequence[PointId], wanted: Wanted, key: ShardKey | None) -> VectorBatch:
        points = self.points.under(key)
        if not self.limits.reads_by_scroll:
            return points.retrieve(ids, wanted)
        return points.scroll(len(ids), None, wanted, Only(ids=tuple(ids))).batch

    def count(self, size: int, only: Only | None = None) -> int:
        """Count the points exactly; by reading ids ``size`` at a time if the limits ask for it."""
        if self.limits.search_allow_exact:
            return self.points.count(only)
        return sum(map(len, self.those(only, size, IDS_ALONE)))

    def _beginnings(self, cursor: str | None) -> Iterator[tuple[ShardKey | None, PointId | None]]:
        """Yield where to read from: each key that is left, and the id to begin with."""
        keys: Sequence[ShardKey | None] = (None,) if self.keys is None else self.keys
        if cursor is None:
            return iter([(key, None) for key in keys])
        at = self._read_cursor(cursor)
        if at is None:
            return iter(())
        key, first = at
        rest = keys[keys.index(key) + 1 :]
        return iter([(key, first), *((key, None) for key in rest)])

    def _read_cursor(self, cursor: str) -> tuple[ShardKey | None, PointId | None] | None:
        """Return the key and the id to go on with, or None at the end."""
        try:
            found: Any = json.loads(cursor)
        except ValueError:
            found = ""
        if found is None:
            return None
        if self.keys is None:
            point_id = id_of_json(found)
            if point_id is not None:
                return None, point_id
        elif isinstance(found, list) and len(found) == 2 and found[0] in self.keys:
            point_id = id_of_json(found[1])
            if point_id is not None or found[1] is None:
                return found[0], point_id
        raise UsageError(
            f"{cursor!r} is no cursor of {self.where}",
            remedy="Give the cursor of a batch of this collection, or none to start over.",
        )

    def _told(self, page: Page, key: ShardKey | None) -> VectorBatch:
        """Return a page's points with their cursor, and spelled with their key."""
        after: PointId | list[ShardKey | PointId | None] | None = page.following
        if self.keys is not None and key is not None:
            rest = self.keys[self.keys.index(key) + 1 :]
            if page.following is not None:
                after = [key, page.following]
            elif rest:
                after = [rest[0], None]
        return replace(self._spelled(page.batch, key), cursor=json.dumps(after))

    @staticmethod
    def _spelled(batch: VectorBatch, key: ShardKey | None) -> VectorBatch:
        return batch if key is None else replace(batch, ids=spell_ids(key, batch.ids))

    def _pages(
        self, size: int, first: PointId | None, wanted: Wanted, key: ShardKey | None
    ) -> Iterator[Page]:
        if self.embedded:
            return self._embedded_pages(size, first, wanted)
        if self.readers == 1 or self.limits.reads_by_scroll:
            return self._scrolled(size, first, wanted, key)
        return self._read_in_parallel(size, first, wanted, key)

    def _read_in_parallel(
        self, size: int, first: PointId | None, wanted: Wanted, key: ShardKey | None
    ) -> Iterator[Page]:
        """Yield pages that are read several at once, planned by their ids alone."""

        def read(planned: Page) -> Page:
            asked = Partition(planned.batch.ids[:1].tolist()[0], planned.following)
            pages = self._scrolled(len(planned.batch), asked.first, wanted, key)
            # More than one if points came since the plan was made.
            parts = [_before(asked.stop, page.batch) for page in _until(asked, pages)]
            return replace(planned, batch=join_batches(parts or [planned.batch.take(NONE)]))

        plan = self._scrolled(size, first, IDS_ALONE, key)
        for page in map_in_parallel(read, plan, self.readers, name="qdrant-reader"):
            # Points that were deleted since the plan was made are not there.
            if len(page.batch):
                yield page

    def _scrolled(
        self,
        size: int,
        first: PointId | None,
        wanted: Wanted,
        key: ShardKey | None,
        only: Only | None = None,
    ) -> Iterator[Page]:
        points, following = self.points.under(key), first
        while True:
            page = points.scroll(size, following, wanted, only)
            if len(page.batch):
                yield page
            following = page.following
            if following is None:
                return

    def _embedded_pages(self, size: int, first: PointId | None, wanted: Wanted) -> Iterator[Page]:
        """As :meth:`_scrolled`, without the pass over all points that each scroll costs."""
        ids = list(self._embedded_ids())
        start = 0 if first is None else bisect_left(ids, _order(first), key=_order)
        for low in range(start, len(ids), size):
            high = low + size
            following = ids[high] if high < len(ids) else None
            yield Page(self.points.retrieve(ids[low:high], wanted), following)

    def _embedded_ids(self) -> Iterator[PointId]:
        for page in self._scrolled(EMBEDDED_ID_PAGE, None, IDS_ALONE, None):
            yield from page.batch.ids.tolist()


def _until(asked: Partition, pages: Iterable[Page]) -> Iterator[Page]:
    """Yield the pages of a partition, asking for none beyond it."""
    stop = None if asked.stop is None else _order(asked.stop)
    for page in pages:
        if stop is not None and _order(page.batch.ids[:1].tolist()[0]) >= stop:
            return
        yield page
        if stop is not None and (page.following is None or _order(page.following) >= stop):
            return


def _before(stop: PointId | None, batch: VectorBatch) -> VectorBatch:
    """Return the points of a page that are before a partition's end."""
    last = batch.ids[-1:].tolist()[0]
    if stop is None or _order(last) < _order(stop):
        return batch
    return batch.take(np.array([_order(i) < _order(stop) for i in batch.ids.tolist()], np.bool_))


def _order(point_id: PointId) -> tuple[bool, int, str]:
    """Qdrant's order of ids: integers, then UUIDs."""
    if isinstance(point_id, str):
        return True, 0, point_id
    return False, point_id, ""


@dataclass(frozen=True, slots=True)
class Partition:
    """A range of ids, under one shard key if there are such.

    Attributes
    ----------
    first, stop
        The first id, and that with which the next range begins; None after the last one.
    """

    first: PointId
    stop: PointId | None
    key: ShardKey | None = None


def partition_tokens(
    firsts: Iterable[PointId], batches: int, key: ShardKey | None
) -> Iterator[str]:
    """Yield partitions of about ``batches`` batches, given the first id of each batch.

    A batch begins a partition by what its first id is, not by its number, so that the same
    partitions are found again from a batch in the middle, without reading the ids before it.
    """
    start: PointId | None = None
    for first in firsts:
        if start is None:
            start = first
        elif _begins_partition(first, batches):
            yield _token(start, first, key)
            start = first
    if start is not None:
        yield _token(start, None, key)


def read_token(token: str, where: str, *, keyed: bool) -> Partition:
    """Return the partition that a token names.

    Parameters
    ----------
    keyed
        True if the collection has shard keys, one of which the token then names.

    Raises
    ------
    UsageError
        If the token names none.
    """
    try:
        first, stop, *rest = json.loads(token)
    except (ValueError, TypeError):
        first, stop, rest = None, None, []
    begins, ends = id_of_json(first), id_of_json(stop)
    if begins is None or (ends is None and stop is not None) or len(rest) != keyed:
        raise UsageError(
            f"{token!r} is no partition of {where}",
            remedy="Use the tokens that its partitions() gives.",
        )
    return Partition(begins, ends, rest[0] if keyed else None)


def _token(first: PointId, stop: PointId | None, key: ShardKey | None) -> str:
    return json.dumps([first, stop] if key is None else [first, stop, key])


def _begins_partition(first: PointId, batches: int) -> bool:
    digest = hashlib.blake2b(str(first).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % batches == 0
