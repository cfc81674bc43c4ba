"""A Qdrant collection being read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from qdrant_client import models

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    PartitionedSource,
    PointId,
    StoreURI,
    UsageError,
    VectorBatch,
    Vectors,
    filtering,
    id_array,
    join_batches,
    refuse_missing,
)
from vecmigrate_qdrant.access.places import parse_place
from vecmigrate_qdrant.changed import Changed, changed_since
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import describe, existing_collection
from vecmigrate_qdrant.filters import count_conditions, read_filter
from vecmigrate_qdrant.ids import canonical_ids
from vecmigrate_qdrant.limits import Limits
from vecmigrate_qdrant.location import ServerLocation, is_in_place
from vecmigrate_qdrant.marks import read_mark, settled, vector_marks
from vecmigrate_qdrant.points import (
    IDS_ALONE,
    UNNAMED,
    Only,
    Shape,
    ShardKey,
    Wanted,
    choose_vector,
    count_numbers,
    dense_params,
)
from vecmigrate_qdrant.reading import Reader
from vecmigrate_qdrant.settings import never_indexed
from vecmigrate_qdrant.shard_keys import (
    canonical_spelling,
    is_sharded_by_key,
    key_names,
    read_shard_keys,
    spell_id,
)

FETCHED_AT_ONCE = 256
SEARCHED_AT_ONCE = 32
PROBED = 64
FLOAT16 = 2.0**-11
LOADED_ANEW = 2.0**-22
"""qdrant-client gives vectors unit length each time that it loads them, in another precision than
when they were written."""
# Of a page's vectors as float32; as the client's lists of numbers they take eight times as much.
PAGE_BYTES = 16 * 2**20
SAMPLED = 16


class QdrantSource(PartitionedSource):
    """A Qdrant collection, read by shard keys if it has them and in the order of its ids.

    With shard keys an id is spelled ``KEY/ID``, since it is unique within a key only.

    Raises
    ------
    UsageError
        If the URI is not understood or leaves open which vector is meant.
    InputError
        If the collection is not there, cannot be read, or its storage is in use.
    UnreachableError
        If the server does not answer.
    """

    holds_bare_points = True
    thread_safe = True

    def __init__(self, uri: StoreURI) -> None:
        location = parse_place(uri)
        self.live = isinstance(location, ServerLocation)
        self._uri = uri
        self._collection = location.collection
        self._access = open_access(location, refusal=InputError)
        try:
            info = existing_collection(self._access, self._collection)
            self._where = f"{self._access.place}/{self._collection}"
            mark = read_mark(info)
            wanted = uri.options.get("vector", mark.vector if mark is not None else None)
            if is_in_place(uri) and wanted not in dense_params(info.config.params):
                raise InputError(
                    f"{self._where} has no vector {wanted!r} yet",
                    remedy="Add it: vecmigrate migrate SOURCE TARGET --translator FILE.",
                )
            self._vector = choose_vector(info.config.params, wanted, self._where)
            self._added = set(vector_marks(info)) - {self._vector}
            self._is_added = self._vector in vector_marks(info)
            params = settled(info, self._vector).config.params
            self._shape = Shape.of(params, self._vector)
            self._points = self._access.points(self._collection, self._shape)
            self.hash_form = self._points.hash_form
            half = dense_params(params)[self._vector].datatype == models.Datatype.FLOAT16
            self._rounding = FLOAT16 if half else 0.0
            if self._access.embedded and not half:
                self._rounding = LOADED_ANEW
            self._limits = Limits.of(info)
            self._shard_keys = None
            if is_sharded_by_key(params):
                self._shard_keys = read_shard_keys(self._access, self._collection)
            self._reader = Reader(
                self._points,
                None if self._shard_keys is None else key_names(self._shard_keys),
                self._where,
                embedded=not self._access.indexed,
                readers=location.readers if isinstance(location, ServerLocation) else 1,
                limits=self._limits,
            )
        except BaseException:
            self._access.close()
            raise

    def describe(self) -> CollectionDescription:
        return self._description

    @cached_property
    def _description(self) -> CollectionDescription:
        asked = self._uri.options.get("text")
        where = self._access, self._uri, self._collection, self._vector
        found = describe(*where, shard_keys=self._shard_keys)
        if asked is not None and found.count and asked != found.text_field:
            raise UsageError(
                f"{self._where} has no payload field {asked!r}",
                remedy=f"Name one of these by ?text=: {', '.join(found.payload_fields) or 'none'}.",
            )
        return found

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        if self._shape.multivector:
            raise UsageError(
                f"the vector {self._vector!r} of {self._where} is a multivector, any number of "
                "vectors a point",
                remedy="Such collections can be inspected, migrated and verified, by a translator "
                "that was fitted on single vectors of the same encoder.",
            )
        size = self._page_size(batch_size)
        whole = self._reader.batches(size, cursor, Wanted(payloads=payloads))
        return (batch for each in whole if len(batch := each.with_one_vector()))

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        return self._reader.batches(self._whole_page(batch_size), cursor, self._whole)

    def _whole_page(self, batch_size: int) -> int:
        if self._shape.others or self._shape.multivector:
            # Of these a point may have megabytes, and batch_size is meant for one vector each.
            batch_size = min(batch_size, max(1, PAGE_BYTES // self._point_bytes))
        return self._page_size(batch_size)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        asked = self._told_by_index(field, value)
        if asked is None:
            return None
        try:
            unclear = next(self._reader.those(asked.unclear, 1, IDS_ALONE), None)
        except InputError:
            return None  # The collection's strict mode allows no such question.
        if unclear is not None:
            return None
        return self._reader.those(asked.later, self._whole_page(batch_size), self._whole)

    def latest_value(self, field: str) -> str | float | None:
        if self._told_by_index(field, 0) is None:
            return None
        try:
            found = self._points.last_value(field)
        except InputError:
            return None  # A server before 1.8 knows no order; strict mode may not allow it.
        return found if isinstance(found, str | int | float) else None

    def _told_by_index(self, field: str, value: float) -> Changed | None:
        """Return what to ask an index for; None if there is none that tells."""
        if self._is_added or not self._points.filters:
            return None
        schema = self._access.info(self._collection).payload_schema
        return changed_since(schema, field, value)

    @cached_property
    def _point_bytes(self) -> int:
        """About how many bytes a point's vectors are, by the first ones."""
        size = self._limits.page_size(SAMPLED)
        sample = self._points.scroll(size, None, self._whole).batch
        numbers = sample.vectors.size + sum(map(count_numbers, sample.extras or ()))
        return max(1, 4 * numbers // max(1, len(sample)))

    @property
    def _whole(self) -> Wanted:
        return Wanted(extras=bool(self._shape.others))

    def partitions(
        self, batch_size: int, *, batches: int, cursor: str | None = None
    ) -> Iterator[str]:
        if self._access.embedded:
            raise UsageError(
                f"{self._where} is embedded storage, which one process alone can have open",
                remedy="Serve the collection by a Qdrant server, or use one process "
                "(--engine local).",
            )
        return self._reader.partitions(self._page_size(batch_size), batches, cursor)

    def partition_batches(
        self, token: str, batch_size: int, *, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        wanted = Wanted(payloads=payloads, extras=self._whole.extras)
        return self._reader.partition_batches(token, self._page_size(batch_size), wanted)

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
            return self.ids_with_vector(batch_size)
        return self._reader.ids(self._page_size(batch_size))

    def ids_with_vector(self, batch_size: int) -> Iterator[IdArray]:
        if self._vector == UNNAMED or not self._access.indexed:
            yield from super().ids_with_vector(batch_size)
            return
        having = Only(having=self._vector)
        pages = self._reader.those(having, self._page_size(batch_size), IDS_ALONE)
        try:
            first = next(pages, None)
        except InputError:
            # A server before 1.13 does not know the condition; strict mode may not allow it.
            yield from super().ids_with_vector(batch_size)
            return
        if first is not None:
            yield first.ids
        for batch in pages:
            yield batch.ids

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        keyed = self._reader.keys is not None
        wanted = [canonical_spelling(i) for i in ids] if keyed else canonical_ids(ids)
        unique = list(dict.fromkeys(i for i in wanted if i is not None))
        parts = self._reader.fetch(unique, FETCHED_AT_ONCE, self._whole)
        rows = {i: row for row, i in enumerate(i for part in parts for i in part.ids.tolist())}
        missing = [asked for asked, i in zip(ids, wanted, strict=True) if i not in rows]
        refuse_missing(missing, self._where)
        if not parts:
            return VectorBatch(id_array([]), np.empty((0, self._shape.dimension), np.float32), [])
        found = np.fromiter((rows[i] for i in wanted if i is not None), np.intp, len(wanted))
        return join_batches(parts).take(found)

    def search(self, queries: Vectors, k: int) -> list[IdArray]:
        return _ids(self._search(queries, k))

    def nearest(self, queries: Vectors, k: int, *, where: str | None = None) -> list[VectorBatch]:
        matching = None if where is None else read_filter(where, self._where)
        with filtering(where, self._where, lambda: self._search(queries[:1], k)):
            return self._search(queries, k, Wanted(), matching=matching)

    def search_exactly(self, queries: Vectors, k: int) -> list[IdArray] | None:
        if not self._limits.search_allow_exact:
            return None
        return _ids(self._search(queries, k, exact=True))

    def unmeasurable(self, queries: Vectors, k: int) -> str | None:
        allowed = self._limits.page_size(k)
        if allowed < k:
            return (
                f"strict mode allows {allowed} results of a query, and {k} are needed: raise "
                "max_query_limit to measure"
            )
        if not self._access.indexed:
            return None
        info = self._access.info(self._collection)
        if not info.points_count:
            return None
        if not info.indexed_vectors_count:
            return f"nothing is indexed ({never_indexed(info)}), and searches compare all points"
        # What is counted as indexed is of all vectors together, sparse ones too; and what is
        # indexed is not searched by its index as long as there is little of it.
        if self._shows_an_index(queries[:PROBED], k):
            return None
        named = f"the vector {self._vector!r}" if self._vector else "the vector"
        least = info.config.hnsw_config.full_scan_threshold
        return (
            f"searches seem to compare all points, as they find the same however few candidates "
            f"an index keeps: {named} is not indexed, or each segment has less than "
            f"full_scan_threshold ({least:,} kB)"
        )

    def _shows_an_index(self, queries: Vectors, k: int) -> bool:
        """True if searches find other points with few candidates, which only an index counts."""
        usual = self.search(queries, k)
        few = _ids(self._search(queries, k, ef=1))
        return any(a.tolist() != b.tolist() for a, b in zip(usual, few, strict=True))

    def _search(
        self,
        queries: Vectors,
        k: int,
        wanted: Wanted = IDS_ALONE,
        *,
        matching: models.Filter | None = None,
        exact: bool = False,
        ef: int | None = None,
    ) -> list[VectorBatch]:
        limit = self._limits.page_size(k)
        at_once = SEARCHED_AT_ONCE
        if wanted.vectors:
            at_once = min(at_once, max(1, PAGE_BYTES // (4 * self._shape.dimension * limit)))
        size = self._limits.search_size(at_once, count_conditions(matching))
        found: list[VectorBatch] = []
        for start in range(0, len(queries), size):
            some = queries[start : start + size]
            answers = self._points.search(
                some, limit, wanted, matching=matching, exact=exact, ef=ef
            )
            found += [self._keyed(points, keys) for points, keys in answers]
        return found

    def _keyed(self, points: VectorBatch, keys: Sequence[ShardKey | None]) -> VectorBatch:
        """Return points with their shard keys in their ids, if the collection has such keys."""
        if self._reader.keys is None:
            return points
        spelled = zip(points.ids.tolist(), keys, strict=True)
        ids = id_array([i if key is None else spell_id(key, i) for i, key in spelled])
        return replace(points, ids=ids)

    def search_parameter(self) -> str | None:
        return None if not self._access.indexed else "hnsw_ef, a search parameter of each query"

    def rounding(self) -> float:
        return self._rounding

    def payload_ulps(self) -> int:
        return self._access.payload_ulps

    def close(self) -> None:
        self._access.close()

    @staticmethod
    def _page_size(batch_size: int) -> int:
        if batch_size < 1:
            raise UsageError(f"a batch size of {batch_size}", remedy="Give one of at least 1.")
        return batch_size


def _ids(found: Sequence[VectorBatch]) -> list[IdArray]:
    return [points.ids for points in found]
