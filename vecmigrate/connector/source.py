"""What a source offers: batches, partitions of them, and points by their ids."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import InputError, MissingIdsError, UsageError
from vecmigrate.points.batch import (
    IdArray,
    PointId,
    VectorBatch,
    Vectors,
    id_array,
    join_batches,
)
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.ids import name_some


class Source(ABC):
    """A collection open for reading; a context manager. It is never modified.

    A source may be read from a thread other than the one that opened it, one thread at a time
    unless :attr:`thread_safe` says otherwise.

    Attributes
    ----------
    fingerprint_tells_all
        True where :meth:`fingerprint` changes with every change, a vector's in its place too.
    live
        True if others may write while it is read: points come in the order of their ids, and a
        cursor goes on, whatever points came and went.
    hash_form
        Names the rule by which payloads and extras tell their bytes (``canonical_bytes``), if they
        do; such a payload also gives itself without a field (``without``). Hashes by two rules are
        not compared.
    holds_bare_points
        True if a point without a vector is a point all the same, which :meth:`whole_batches` gives.
    changes_told_by
        What of the store :meth:`changed_since` asks: its index, its statistics.
    thread_safe
        True if several threads may call :meth:`nearest` and :meth:`fetch` of one open source at
        once.
    """

    fingerprint_tells_all: ClassVar[bool] = False
    holds_bare_points: ClassVar[bool] = False
    thread_safe: ClassVar[bool] = False
    live: bool = False
    hash_form: str = ""
    changes_told_by: str = "index"

    @abstractmethod
    def describe(self) -> CollectionDescription:
        """Describe the collection without reading all of it."""

    @abstractmethod
    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        """Yield all points that have a vector, in a stable order, at most ``batch_size`` at a time.

        Parameters
        ----------
        cursor
            Start after the batch that carried this cursor. With the same source, what follows is
            what would have followed there, whatever the batch sizes.
        payloads
            False leaves payloads out, which spares reading them.

        Raises
        ------
        InputError
            If stored data cannot be read.
        UsageError
            If the cursor is not one of this source's, or points have several vectors each.
        """

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        """Yield all points with all that the store keeps of them, as a copy is to have it.

        As :meth:`batches` with payloads; override if the store keeps extras of a point, or
        points with several vectors or none (which :meth:`batches` passes over).
        """
        return self.batches(batch_size, cursor=cursor)

    @abstractmethod
    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        """Return the points with these ids, payloads and extras too, in the order asked for.

        Raises
        ------
        MissingIdsError
            Names the ids that are not there.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; may be called again."""

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        """Yield all ids. Override if ids can be read without the vectors."""
        return self.ids_with_vector(batch_size)

    def ids_with_vector(self, batch_size: int) -> Iterator[IdArray]:
        """Yield the ids of all points that have a vector; override as :meth:`ids`."""
        for batch in self.batches(batch_size, payloads=False):
            yield batch.ids

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        """Yield the points whose payload field is not before a value, as a copy is to have them.

        So are those that have no value in the field. Others may come too. None if the store cannot
        tell without reading all of its points, or for some of them not at all; override if it has
        indexes of payload fields.

        Parameters
        ----------
        value
            A number; if the field holds ISO 8601 times, the seconds since 1970, in UTC if a time
            names no zone.
        """
        return None

    def latest_value(self, field: str) -> str | float | None:
        """Return the latest value of a payload field, as payloads have it.

        None if no point has one, or if the store cannot tell without reading all of its points;
        override as :meth:`changed_since`.
        """
        return None

    def fingerprint(self) -> str:
        """Return a text that changes when the collection does, as far as can be told cheaply.

        By default of the description without the URI and the notes, which depend on how it is
        reached, so that a changed count is noticed. Override if the store tells more, as a
        file's size and time.
        """
        return self.describe().fingerprint()

    def stamp(self) -> str | None:
        """Return a text that is another one after any change of any point; None if none tells.

        It tells of the collection as it was opened, or just before. Override if there are files'
        times or a version.
        """
        return None

    def texts(self, ids: Sequence[PointId] | IdArray) -> list[str | None]:
        """Return the embedded text of each id, None if a point has none.

        Raises
        ------
        InputError
            If no payload field is known to hold the text.
        """
        description = self.describe()
        field = description.text_field
        if field is None:
            raise InputError(
                f"{description.uri} has no payload field that holds the text",
                remedy="Name it in the URI, as ?text=FIELD (FAISS: with a sidecar, ?sidecar=FILE).",
            )
        return self.fetch(ids).texts(field) or [None] * len(ids)

    def search(self, queries: Vectors, k: int) -> list[IdArray] | None:
        """Return each query's nearest points as the store's own index finds them, best first.

        Override if the store searches, so that what its index loses can be measured; None says
        that it does not. The search is a reader's: with the parameters that the collection has.

        Parameters
        ----------
        queries
            ``(n, d)`` float32, in the collection's space.
        k
            How many; an approximate index may find fewer.
        """
        return None

    def nearest(
        self, queries: Vectors, k: int, *, where: str | None = None
    ) -> list[VectorBatch] | None:
        """Return what :meth:`search` finds with vectors and payloads, best first.

        Override if one request gives points whole, or if the store filters. By default the ids
        found are fetched, and points that are gone since are passed over.

        Parameters
        ----------
        queries, k
            As in :meth:`search`.
        where
            A filter in the store's own language; only points that pass are found.

        Returns
        -------
        list of VectorBatch or None
            For each query up to ``k`` points, their vectors and payloads as :meth:`fetch` gives
            them, without extras. None if the store does not search.

        Raises
        ------
        UsageError
            If the store does not understand the filter, or has no filters.
        """
        if where is not None:
            raise UsageError(
                f"{self.describe().uri} is of a store that filters nothing: {where!r}",
                remedy="Search without a filter.",
            )
        found = self.search(queries, k)
        if found is None:
            return None
        distinct = id_array(dict.fromkeys(i for ids in found for i in ids.tolist()))
        parts = fetch_there(self, distinct)
        if not parts:
            nothing = np.empty((0, queries.shape[1]), np.float32)
            return [VectorBatch(ids[:0], nothing, []) for ids in found]
        points = join_batches(parts).with_extras(None)
        rows = {point_id: row for row, point_id in enumerate(points.ids.tolist())}
        there = ([rows[i] for i in ids.tolist() if i in rows] for ids in found)
        return [points.take(np.array(mine, np.intp)) for mine in there]

    def search_exactly(self, queries: Vectors, k: int) -> list[IdArray] | None:
        """As :meth:`search`, comparing with all points by the store's own arithmetic.

        Override if the store can, so that what the data lose (ties, rounded vectors) is not blamed
        on the index; None if it cannot.
        """
        return None

    def unmeasurable(self, queries: Vectors, k: int) -> str | None:
        """Say why :meth:`search` for ``k`` points tells nothing of the index, None if it does.

        Parameters
        ----------
        queries
            ``(n, d)`` float32, what is to be searched for.
        """
        return None

    def search_parameter(self) -> str | None:
        """Name what raises the recall of :meth:`search`, as ``nprobe (now 8)``; None if exact."""
        return None

    def rounding(self) -> float:
        """Tell how far a stored vector may lie from what was written, relative to its length.

        0 if the store keeps float32; override if it keeps less.
        """
        return 0.0

    def payload_ulps(self) -> int:
        """Tell how many units in the last place a payload's float may be off what was written.

        0 if the store keeps doubles to the bit; override if it changes them.
        """
        return 0

    def as_stored(self, vectors: Vectors) -> Vectors:
        """Return ``(n, d)`` vectors as they would come back if they were written here.

        Themselves if the store keeps float32; override if it encodes them, so that what its
        own encoding loses is not taken for a wrong vector.
        """
        return vectors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PartitionedSource(Source):
    """A source whose points fall into ranges that are read apart, in other processes too."""

    @abstractmethod
    def partitions(
        self, batch_size: int, *, batches: int, cursor: str | None = None
    ) -> Iterator[str]:
        """Yield a token for each range, in the order of :meth:`Source.batches`.

        A token is a text that :meth:`partition_batches` of the same source takes, opened by any
        process. Ranges share no point, and together they are what :meth:`Source.batches` yields
        after ``cursor``. With the same source and sizes the tokens are the same; after a cursor,
        all but the first are among those without one, so that what was made of a range is found
        again.

        Parameters
        ----------
        batch_size
            That of the batches.
        batches
            How many of them a range is to have, about.
        cursor
            As in :meth:`Source.batches`.

        Raises
        ------
        UsageError
            If only one process can have this collection open, or the cursor is not one of its.
        """

    @abstractmethod
    def partition_batches(
        self, token: str, batch_size: int, *, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        """Yield a range's points, in the batches and with the cursors of :meth:`Source.batches`.

        Raises
        ------
        UsageError
            If the token is not one of this source's.
        InputError
            If stored data cannot be read.
        """


_FEW_AMONG = 20

RowRange: TypeAlias = tuple[int, int]
"""The first row, and the one after the last."""


def steps(first: int, last: int, size: int) -> Iterator[RowRange]:
    """Yield ranges of ``size`` rows, the last one fewer."""
    for start in range(first, last, size):
        yield start, min(start + size, last)


def read_cursor(cursor: str | None, count: int, where: object) -> int:
    """Return the row of ``count`` that a cursor goes on with.

    Raises
    ------
    UsageError
    """
    if cursor is None:
        return 0
    number = cursor.isascii() and cursor.isdecimal() and len(cursor) < 20
    if not (number and int(cursor) <= count):
        raise UsageError(
            f"{cursor!r} is not a cursor of {where}",
            remedy=f"Its cursors are the numbers from 0 to {count}.",
        )
    return int(cursor)


def partition_tokens(first: int, count: int, rows: int) -> Iterator[str]:
    """Yield ranges from row ``first`` on as tokens, split at multiples of ``rows``."""
    start = first
    while start < count:
        stop = min(start - start % rows + rows, count)
        yield json.dumps([start, stop])
        start = stop


def read_token(token: str, count: int, where: object) -> RowRange:
    """Return a token's range.

    Raises
    ------
    UsageError
    """
    try:
        start, stop = map(int, json.loads(token))
    except (ValueError, TypeError):
        start, stop = -1, -1
    if not 0 <= start < stop <= count:
        raise UsageError(
            f"{token!r} is no partition of {where}",
            remedy="Use the tokens that its partitions() gives.",
        )
    return start, stop


class RowSource(PartitionedSource):
    """A source whose rows have numbers: a cursor is that of the next row, a token has two.

    Attributes
    ----------
    where : object
        Names the collection in messages.
    """

    where: object

    @abstractmethod
    def row_count(self) -> int:
        """Return how many rows there are."""

    @abstractmethod
    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        """Yield the rows from ``first`` to before ``last`` by ``size``, each with its cursor."""

    def rows_numbered(self, wanted: NDArray[np.int64], size: int) -> Iterator[VectorBatch] | None:
        """Yield the rows of these numbers, which ascend, by reading all rows once.

        None if they are so few that a store that finds rows does better.
        """
        count = self.row_count()
        if len(wanted) * _FEW_AMONG < count:
            return None

        def chosen() -> Iterator[VectorBatch]:
            at = 0
            for batch in self.rows(0, count, size, payloads=True):
                low, high = np.searchsorted(wanted, (at, at + len(batch)))
                if low < high:
                    yield batch.take(wanted[low:high] - at)
                at += len(batch)

        return chosen()

    def check_rows(self) -> None:
        """Raise :class:`InputError` if the rows are no points, since ids come twice."""

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        count = self.row_count()
        first = read_cursor(cursor, count, self.where)
        self.check_rows()
        return self.rows(first, count, batch_size, payloads=payloads)

    def partitions(
        self, batch_size: int, *, batches: int, cursor: str | None = None
    ) -> Iterator[str]:
        count = self.row_count()
        first = read_cursor(cursor, count, self.where)
        self.check_rows()
        return partition_tokens(first, count, batches * batch_size)

    def partition_batches(
        self, token: str, batch_size: int, *, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        first, last = read_token(token, self.row_count(), self.where)
        return self.rows(first, last, batch_size, payloads=payloads)


@contextmanager
def filtering(
    where: str | None, collection: object, unfiltered: Callable[[], object]
) -> Iterator[None]:
    """Raise as :class:`UsageError` what a store refuses for the filter ``where`` of a search.

    Parameters
    ----------
    unfiltered
        Searches without the filter: if that is refused too, the filter is not at fault.
    """
    try:
        yield
    except InputError as refused:
        if where is None:
            raise
        unfiltered()
        raise UsageError(
            f"{collection} refuses the filter {where!r}: {refused.message}",
            remedy="Give a filter in the store's own language, of fields that points have.",
        ) from refused


def refuse_missing(missing: Sequence[PointId], where: object) -> None:
    """Raise :class:`MissingIdsError` if ids that were asked for are missing in a collection."""
    if missing:
        raise MissingIdsError(
            f"{where} lacks the ids {name_some(missing)}",
            remedy="Ask for ids of this collection, or choose the collection they are from.",
            missing=missing,
        )


def fetch_there(source: Source, ids: IdArray) -> list[VectorBatch]:
    """Return points by id, without those that are gone since they were listed."""
    if not len(ids):
        return []
    try:
        return [source.fetch(ids)]
    except MissingIdsError as error:
        there = np.array([i not in error.missing for i in ids.tolist()], np.bool_)
        if not there.all():
            return fetch_there(source, ids[there])
        if len(ids) == 1:
            return []
    half = len(ids) // 2
    return fetch_there(source, ids[:half]) + fetch_there(source, ids[half:])


def fetch_existing(source: Source, ids: IdArray) -> list[VectorBatch]:
    """As :func:`fetch_there`, without points that have no vector."""
    return [batch.with_one_vector() for batch in fetch_there(source, ids)]


def texts_by_id(batches: Iterable[VectorBatch], field: str | None) -> dict[PointId, str | None]:
    """Return the text of each point in a payload field; None if a point has none."""
    found: dict[PointId, str | None] = {}
    for batch in batches:
        texts = batch.texts(field) or [None] * len(batch)
        found.update(zip(batch.ids.tolist(), texts, strict=True))
    return found


def rows_by_id(batch: VectorBatch, ids: IdArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the row of each of ``ids`` in a batch that has them all."""
    rows = {point_id: row for row, point_id in enumerate(batch.ids.tolist())}
    return np.fromiter((rows[i] for i in ids.tolist()), np.intp, len(ids))
