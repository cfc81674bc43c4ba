"""A Qdrant collection being read."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import TypeAlias

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    MissingIdsError,
    PartitionedSource,
    PointId,
    StoreURI,
    UsageError,
    VectorBatch,
    Vectors,
    id_array,
    name_some,
)
from vecmigrate_qdrant.access import open_access
from vecmigrate_qdrant.describe import describe, existing_collection
from vecmigrate_qdrant.extras import has_extras, read_extras
from vecmigrate_qdrant.ids import canonical_ids, id_of_json
from vecmigrate_qdrant.location import ServerLocation, parse_location
from vecmigrate_qdrant.marks import read_mark, settled, vector_marks
from vecmigrate_qdrant.parallel import read_in_parallel
from vecmigrate_qdrant.partitions import partition_tokens, read_token
from vecmigrate_qdrant.vectors import (
    UNNAMED,
    choose_vector,
    count_numbers,
    dense_params,
    matrix,
    other_vectors,
    selector,
)

FETCHED_AT_ONCE = 256
SEARCHED_AT_ONCE = 32
FLOAT16 = 2.0**-11
# Of a page's vectors as float32; as the client's lists of numbers they take eight times as much.
PAGE_BYTES = 16 * 2**20
SAMPLED = 16
# A page of ids alone costs embedded storage one pass over the collection, whatever the page's size.
EMBEDDED_ID_PAGE = 50_000

Page: TypeAlias = tuple[Sequence[models.Record], PointId | None]
"""Records, and the id that comes next."""


class QdrantSource(PartitionedSource):
    """A Qdrant collection, read in the order of its ids.

    A batch's cursor is the JSON of the id that comes next: an integer, a UUID, or null at the end.
    A partition's token is the JSON of its first id and of the next partition's.

    Raises
    ------
    UsageError
        Where the URI is not understood or leaves open which vector is meant.
    InputError
        Where the collection is not there, cannot be read, or its storage is in use.
    UnreachableError
        Where the server does not answer.
    """

    def __init__(self, uri: StoreURI) -> None:
        location = parse_location(uri)
        self._uri = uri
        self._collection = location.collection
        self._access = open_access(location, refusal=InputError)
        self._readers = location.readers if isinstance(location, ServerLocation) else 1
        try:
            info = existing_collection(self._access, self._collection)
            self._where = f"{self._access.place}/{self._collection}"
            mark = read_mark(info)
            wanted = uri.options.get("vector", mark.vector if mark is not None else None)
            self._vector = choose_vector(info.config.params, wanted, self._where)
            self._added = set(vector_marks(info)) - {self._vector}
            self._is_added = self._vector in vector_marks(info)
            params = settled(info, self._vector).config.params
            self._others = frozenset(other_vectors(params, self._vector))
            self._with_vectors = selector(params, self._vector)
            self._has_extras = has_extras(params, self._vector)
            own = self._params = dense_params(params)[self._vector]
            self._rounding = FLOAT16 if own.datatype == models.Datatype.FLOAT16 else 0.0
            strict = info.config.strict_mode_config
            self._page_limit = strict.max_query_limit if strict and strict.enabled else None
        except BaseException:
            self._access.close()
            raise

    def describe(self) -> CollectionDescription:
        return self._description

    @cached_property
    def _description(self) -> CollectionDescription:
        asked = self._uri.options.get("text")
        found = describe(self._access, self._uri, self._collection, self._vector, text_field=asked)
        if asked is not None and found.count and asked != found.text_field:
            raise UsageError(
                f"{self._where} has no payload field {asked!r}",
                remedy=f"Name one of these by ?text=: {', '.join(found.payload_fields) or 'none'}.",
            )
        return found

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        if self._params.multivector_config is not None:
            raise UsageError(
                f"the vector {self._vector!r} of {self._where} is a multivector, any number of "
                "vectors a point",
                remedy="Such collections can be inspected, migrated and verified, by a translator "
                "that was fitted on single vectors of the same encoder.",
            )
        whole = self._pages(batch_size, cursor, payloads, self._with_vectors)
        return (batch for each in whole if len(batch := each.with_one_vector()))

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        if self._has_extras or self._params.multivector_config is not None:
            # Of these a point may have megabytes, and batch_size is meant for one vector each.
            batch_size = min(batch_size, max(1, PAGE_BYTES // self._point_bytes))
        return self._pages(batch_size, cursor, True, self._has_extras or self._with_vectors)

    @cached_property
    def _point_bytes(self) -> int:
        """About how many bytes a point's vectors are, by the first ones."""
        records, _ = self._scroll(self._page_size(SAMPLED), None, False, True)
        return max(1, 4 * sum(count_numbers(r) for r in records) // max(1, len(records)))

    def _pages(
        self, batch_size: int, cursor: str | None, payloads: bool, vectors: bool | list[str]
    ) -> Iterator[VectorBatch]:
        size = self._page_size(batch_size)
        first = None if cursor is None else self._read_cursor(cursor)
        if cursor is not None and first is None:
            return iter(())
        pages = (
            self._embedded_pages(size, first, payloads, vectors)
            if self._access.embedded
            else self._server_pages(size, first, payloads, vectors)
        )
        return self._batches(pages, payloads, vectors)

    def partitions(
        self, batch_size: int, *, batches: int, cursor: str | None = None
    ) -> Iterator[str]:
        if self._access.embedded:
            raise UsageError(
                f"{self._where} is embedded storage, which one process alone can have open",
                remedy="Serve the collection by a Qdrant server, or use one process "
                "(--engine local).",
            )
        size = self._page_size(batch_size)
        first = None if cursor is None else self._read_cursor(cursor)
        if cursor is not None and first is None:
            return iter(())
        pages = self._scrolled_pages(size, first, False, False)
        return partition_tokens((_id(records[0]) for records, _ in pages), batches)

    def partition_batches(
        self, token: str, batch_size: int, *, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        first, stop = read_token(token, self._where)
        size = self._page_size(batch_size)
        vectors = self._has_extras or self._with_vectors
        pages = self._scrolled_pages(size, first, payloads, vectors)
        return self._batches(_until(stop, pages), payloads, vectors)

    def fingerprint(self) -> str:
        """As ever; a vector that vecmigrate adds in place is no change of the others."""
        described = self.describe()
        others = described.settings.get("other_vectors")
        if isinstance(others, dict):
            left = {name: found for name, found in others.items() if name not in self._added}
            others = {**described.settings, "other_vectors": left}
        kept = tuple(name for name in described.other_vectors if name not in self._added)
        update = {"other_vectors": kept, "settings": others or described.settings}
        return described.model_copy(update=update).fingerprint()

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        if self._is_added:
            # Some points may have been left out.
            yield from super().ids(batch_size)
            return
        size = self._page_size(batch_size)
        if self._access.embedded:
            remaining = self._embedded_ids()
            while page := list(islice(remaining, size)):
                yield id_array(page)
            return
        for records, _ in self._scrolled_pages(size, None, False, False):
            yield id_array(map(_id, records))

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        wanted = canonical_ids(ids)
        unique = list(dict.fromkeys(i for i in wanted if i is not None))
        found: dict[PointId, models.Record] = {}
        step = self._page_size(FETCHED_AT_ONCE)
        for start in range(0, len(unique), step):
            for record in self._retrieve(
                unique[start : start + step], True, self._has_extras or self._with_vectors
            ):
                found[_id(record)] = record
        missing = [
            asked for asked, i in zip(ids, wanted, strict=True) if i is None or i not in found
        ]
        if missing:
            raise MissingIdsError(
                f"{self._where} does not hold {name_some(missing)}",
                remedy="Ask for ids of this collection, or choose the collection they are from.",
            )
        records = [found[i] for i in wanted if i is not None]
        return self._batch(records, True, self._has_extras, None)

    def search(self, queries: Vectors, k: int) -> list[IdArray]:
        using = None if self._vector == UNNAMED else self._vector
        limit = min(k, self._page_limit or k)
        found: list[IdArray] = []
        for start in range(0, len(queries), SEARCHED_AT_ONCE):
            requests = [
                models.QueryRequest(query=row, using=using, limit=limit)
                for row in queries[start : start + SEARCHED_AT_ONCE].tolist()
            ]
            answers = self._access.run(
                partial(_query_batch, collection=self._collection, requests=requests)
            )
            found += [id_array([_plain_id(p.id) for p in answer.points]) for answer in answers]
        return found

    def search_parameter(self) -> str | None:
        return None if self._access.embedded else "hnsw_ef, a search parameter of each query"

    def rounding(self) -> float:
        return self._rounding

    def close(self) -> None:
        self._access.close()

    def _batches(
        self, pages: Iterable[Page], payloads: bool, vectors: bool | list[str]
    ) -> Iterator[VectorBatch]:
        extras = vectors is True and self._has_extras
        for records, following in pages:
            yield self._batch(records, payloads, extras, json.dumps(following))

    def _batch(
        self, records: Sequence[models.Record], payloads: bool, extras: bool, cursor: str | None
    ) -> VectorBatch:
        vectors, counts = matrix(records, self._vector, self._params)
        return VectorBatch(
            id_array(map(_id, records)),
            vectors,
            [r.payload or {} for r in records] if payloads else None,
            cursor,
            read_extras(records, self._others) if extras else None,
            counts,
        )

    def _page_size(self, batch_size: int) -> int:
        if batch_size < 1:
            raise UsageError(f"a batch size of {batch_size}", remedy="Give one of at least 1.")
        return min(batch_size, self._page_limit or batch_size)

    def _read_cursor(self, cursor: str) -> PointId | None:
        """Return the id to go on with, or None at the end."""
        try:
            following = json.loads(cursor)
        except ValueError:
            following = ""
        if following is None:
            return None
        point_id = id_of_json(following)
        if point_id is None:
            raise UsageError(
                f"{cursor!r} is no cursor of {self._where}",
                remedy="Give the cursor of a batch of this collection, or none to start over.",
            )
        return point_id

    def _server_pages(
        self, size: int, first: PointId | None, payloads: bool, vectors: bool | list[str]
    ) -> Iterator[Page]:
        if self._readers == 1:
            yield from self._scrolled_pages(size, first, payloads, vectors)
            return
        plan = (
            ([_id(record) for record in records], following)
            for records, following in self._scrolled_pages(size, first, False, False)
        )
        read = partial(self._retrieve, payloads=payloads, vectors=vectors)
        for records, following in read_in_parallel(plan, read, self._readers):
            if records:
                yield records, following

    def _scrolled_pages(
        self,
        size: int,
        first: PointId | None,
        payloads: bool,
        vectors: bool | list[str],
    ) -> Iterator[Page]:
        """Yield pages of records, each with the id that comes next."""
        following = first
        while True:
            records, following = self._scroll(size, following, payloads, vectors)
            if records:
                yield records, following
            if following is None:
                return

    def _scroll(
        self, size: int, offset: PointId | None, payloads: bool, vectors: bool | list[str]
    ) -> Page:
        records, following = self._access.run(
            lambda client: client.scroll(
                self._collection,
                limit=size,
                offset=offset,
                with_payload=payloads,
                with_vectors=vectors,
            )
        )
        return records, None if following is None else _plain_id(following)

    def _embedded_pages(
        self, size: int, first: PointId | None, payloads: bool, vectors: bool | list[str]
    ) -> Iterator[Page]:
        """As :meth:`_scrolled_pages`, without the pass over all points that each scroll costs."""
        ids = list(self._embedded_ids())
        start = 0 if first is None else bisect_left(ids, _order(first), key=_order)
        for low in range(start, len(ids), size):
            high = low + size
            following = ids[high] if high < len(ids) else None
            yield self._retrieve(ids[low:high], payloads, vectors), following

    def _embedded_ids(self) -> Iterator[PointId]:
        for records, _ in self._scrolled_pages(EMBEDDED_ID_PAGE, None, False, False):
            yield from map(_id, records)

    def _retrieve(
        self, ids: Sequence[PointId], payloads: bool, vectors: bool | list[str]
    ) -> list[models.Record]:
        return self._access.run(
            lambda client: client.retrieve(
                self._collection, ids, with_payload=payloads, with_vectors=vectors
            )
        )


def _query_batch(
    client: QdrantBase, *, collection: str, requests: list[models.QueryRequest]
) -> list[models.QueryResponse]:
    return client.query_batch_points(collection, requests)


def _id(record: models.Record) -> PointId:
    return _plain_id(record.id)


def _plain_id(point_id: object) -> PointId:
    return point_id if isinstance(point_id, int) else str(point_id)


def _until(stop: PointId | None, pages: Iterator[Page]) -> Iterator[Page]:
    """Yield the pages of a partition, asking for none beyond it; ``stop`` begins the next one."""
    for records, following in pages:
        if stop is not None and _order(_id(records[0])) >= _order(stop):
            return
        yield records, following
        if stop is not None and (following is None or _order(following) >= _order(stop)):
            return


def _order(point_id: PointId) -> tuple[bool, int, str]:
    """Qdrant's order of ids: integers, then UUIDs."""
    if isinstance(point_id, str):
        return True, 0, point_id
    return False, point_id, ""
