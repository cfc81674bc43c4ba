"""Points that Qdrant's own engine reads and writes in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from struct import Struct
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import qdrant_edge
from qdrant_client import models

from vecmigrate.connector import (
    Extra,
    InputError,
    PointId,
    RefusedError,
    VectorBatch,
    Vectors,
    id_array,
)
from vecmigrate_qdrant.access.base import Refusal
from vecmigrate_qdrant.client.points import filter_of
from vecmigrate_qdrant.edge.engine import Shard, failures
from vecmigrate_qdrant.edge.filters import engine_filter
from vecmigrate_qdrant.points import (
    IDS_ALONE,
    VECTORS,
    Found,
    Only,
    Page,
    Points,
    Shape,
    ShardKey,
    Wanted,
    dense_params,
    has_large_integer,
    plain_id,
)

Shards: TypeAlias = Mapping[ShardKey | None, Sequence[Shard]]
"""The shards of a collection by their shard key, None without custom sharding."""

_Record: TypeAlias = qdrant_edge.Record | qdrant_edge.ScoredPoint

_ASCENDING = (models.Distance.EUCLID, models.Distance.MANHATTAN)
# The engine copies its points twice; of so few the copies stay in the processor's cache.
_UPDATED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Place:
    """What :class:`EdgePoints` reads and writes.

    Attributes
    ----------
    if
        The collection, for messages.
    refusal
        What a request that the engine refuses is raised as.
    shards
        Returns the shards; called once points are read or written.
    ascending
        True if a lower score is a nearer point.
    before_write
        Called with the bytes of the vectors that are to be written; may raise.
    """

    where: str
    refusal: Refusal
    shards: Callable[[], Shards]
    ascending: bool = False
    before_write: Callable[[int], None] = lambda _: None


class EdgePoints(Points):
    """Points of one or several shards, in the order of their ids."""

    def __init__(self, place: Place, shape: Shape) -> None:
        self._place = place
        self._shape = shape
        self._row = Struct(f"{shape.dimension}f")

    def scroll(
        self, limit: int, offset: PointId | None, wanted: Wanted, only: Only | None = None
    ) -> Page:
        with self._failures():
            shards = self._shards()
            if len(shards) == 1:
                records, following = self._scrolled(shards[0], limit, offset, wanted, only)
                return Page(
                    self._batch(records, wanted), None if following is None else plain_id(following)
                )
            order = self._merged(shards, limit, offset, only)
            if self.key in self._place.shards():
                self._check_unique(order)
            following = plain_id(order[limit][0]) if len(order) > limit else None
            return Page(
                self._batch(self._gathered(shards, order[:limit], wanted), wanted), following
            )

    def retrieve(self, ids: Sequence[PointId], wanted: Wanted) -> VectorBatch:
        with self._failures():
            found: dict[PointId, qdrant_edge.Record] = {}
            left = list(ids)
            for shard in self._shards():
                found |= {plain_id(r.id): r for r in self._retrieved(shard, left, wanted)}
                left = [i for i in left if i not in found]
            return self._batch([found[i] for i in ids if i in found], wanted)

    def upsert(
        self, ids: Sequence[PointId], batch: VectorBatch, *, insert_only: bool = False
    ) -> None:
        # Nobody else writes while this process has the directory open.
        assert not insert_only
        payloads: list[dict[str, Any]] = [{}] * len(ids)
        if batch.payloads is not None:
            payloads = [dict(payload) for payload in batch.payloads]
            for point_id, payload in zip(ids, payloads, strict=True):
                self._check_integers(point_id, payload)
        with self._failures():
            self._place.before_write(batch.vectors.nbytes)
            points = map(qdrant_edge.Point, ids, self._vectors_of(batch), payloads)
            while some := list(islice(points, _UPDATED_AT_ONCE)):
                self._update(qdrant_edge.UpdateOperation.upsert_points(some))

    def update_vectors(self, ids: Sequence[PointId], batch: VectorBatch) -> None:
        with self._failures():
            vectors = self._vectors_of(replace(batch, extras=None))
            points = [
                qdrant_edge.PointVectors(point_id, vector)
                for point_id, vector in zip(ids, vectors, strict=True)
                if not isinstance(vector, dict) or vector
            ]
            self._place.before_write(batch.vectors.nbytes)
            if points:
                self._update(qdrant_edge.UpdateOperation.update_vectors(points))

    def delete(self, ids: Sequence[PointId]) -> None:
        with self._failures():
            self._update(qdrant_edge.UpdateOperation.delete_points(list(ids)))

    def search(
        self,
        queries: Vectors,
        k: int,
        wanted: Wanted,
        *,
        matching: models.Filter | None = None,
        exact: bool = False,
        ef: int | None = None,
    ) -> list[Found]:
        found: list[list[tuple[qdrant_edge.ScoredPoint, ShardKey | None]]] = [[] for _ in queries]
        with self._failures():
            passing = engine_filter(matching)
            params = qdrant_edge.SearchParams(hnsw_ef=ef, exact=exact)
            requests = [
                qdrant_edge.QueryRequest(
                    limit=k,
                    query=qdrant_edge.Query.Nearest(row, self._shape.vector),
                    filter=passing,
                    params=params,
                    with_payload=wanted.payloads,
                    with_vector=self._shape.selector(wanted),
                )
                for row in queries.tolist()
            ]
            asked = qdrant_edge.QueryBatchRequest(requests)
            for key, shards in self._place.shards().items():
                for shard in shards:
                    answers = shard.ask(lambda engine: engine.query_batch(asked))
                    for mine, answer in zip(found, answers, strict=True):
                        mine += [(point, key) for point in answer]
            sign = 1 if self._place.ascending else -1
            # Sorting keeps the engine's own order among equal scores.
            best = [sorted(mine, key=lambda each: sign * each[0].score)[:k] for mine in found]
            return [
                (self._batch([point for point, _ in mine], wanted), [key for _, key in mine])
                for mine in best
            ]

    def count(self, only: Only | None = None) -> int:
        asked = qdrant_edge.CountRequest(filter=_filter_of(only), exact=True)
        with self._failures():
            return sum(shard.ask(lambda engine: engine.count(asked)) for shard in self._shards())

    def _failures(self) -> Any:
        return failures(self._place.where, self._place.refusal)

    def _shards(self) -> Sequence[Shard]:
        every = self._place.shards()
        return every[self.key] if self.key in every else list(chain.from_iterable(every.values()))

    def _update(self, operation: qdrant_edge.UpdateOperation) -> None:
        (shard,) = self._shards()
        shard.ask(lambda engine: engine.update(operation))

    def _scrolled(
        self,
        shard: Shard,
        limit: int,
        offset: PointId | None,
        wanted: Wanted,
        only: Only | None,
    ) -> tuple[list[qdrant_edge.Record], Any]:
        request = qdrant_edge.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=_filter_of(only),
            with_payload=wanted.payloads,
            with_vector=self._shape.selector(wanted),
        )
        return shard.ask(lambda engine: engine.scroll(request))

    def _retrieved(
        self, shard: Shard, ids: Sequence[Any], wanted: Wanted
    ) -> list[qdrant_edge.Record]:
        if not ids:
            return []
        return shard.ask(
            lambda engine: engine.retrieve(list(ids), wanted.payloads, self._shape.selector(wanted))
        )

    def _merged(
        self, shards: Sequence[Shard], limit: int, offset: PointId | None, only: Only | None
    ) -> list[tuple[Any, int]]:
        """Return the next ids of all shards, one more than ``limit``, each with its shard."""
        ids = [
            (record.id, number)
            for number, shard in enumerate(shards)
            for record in self._scrolled(shard, limit + 1, offset, IDS_ALONE, only)[0]
        ]
        ids.sort(key=lambda each: (isinstance(each[0], UUID), each[0]))
        return ids[: limit + 1]

    def _check_unique(self, order: Sequence[tuple[Any, int]]) -> None:
        """Refuse shards that have a point in common, which is unique within a shard key."""
        for one, other in pairwise(order):
            if one[0] == other[0]:
                raise InputError(
                    f"the point {one[0]} is in two shards of {self._place.where}: its points were "
                    "being moved between shards",
                    remedy="Take a snapshot once that has ended.",
                )

    def _gathered(
        self, shards: Sequence[Shard], order: Sequence[tuple[Any, int]], wanted: Wanted
    ) -> list[qdrant_edge.Record]:
        """Return the points that :meth:`_merged` found, in its order."""
        mine: list[list[Any]] = [[] for _ in shards]
        for point_id, number in order:
            mine[number].append(point_id)
        read = [
            iter(self._retrieved(shard, ids, wanted))
            for shard, ids in zip(shards, mine, strict=True)
        ]
        return [next(read[number]) for _, number in order]

    def _batch(self, records: Sequence[_Record], wanted: Wanted) -> VectorBatch:
        payloads: list[Any] | None = None
        if wanted.payloads:
            payloads = [record.payload or {} for record in records]
        ids = id_array([plain_id(record.id) for record in records])
        dimension = self._shape.dimension
        if not wanted.vectors:
            none = np.empty((0, dimension), np.float32)
            return VectorBatch(ids, none, payloads, counts=np.zeros(len(records), np.intp))
        data, counts, extras = bytearray(), [], []
        for record in records:
            # Each record's numbers are packed before the next one's are made: as objects that
            # live on they would cost six times as much.
            own, others = self._split(record.vector)
            data += b"".join([self._row.pack(*row) for row in own])
            counts.append(len(own))
            if wanted.extras:
                extras.append(others)
        each = np.array(counts, np.intp)
        alone = not self._shape.multivector and bool((each == 1).all())
        return VectorBatch(
            ids,
            np.frombuffer(data, np.float32).reshape(-1, dimension),
            payloads,
            extras=extras if wanted.extras else None,
            counts=None if alone else each,
        )

    def _split(self, vector: Any) -> tuple[Sequence[Sequence[float]], Extra]:
        """Return the rows of the point's own vector, and its extra."""
        if not isinstance(vector, dict):
            own = vector
            vectors: dict[str, Any] = {}
        else:
            own = vector.get(self._shape.vector)
            vectors = {n: _json(v) for n, v in vector.items() if n in self._shape.others}
        extra = {VECTORS: vectors} if vectors else {}
        if own is None:
            return (), extra
        return (own if self._shape.multivector else (own,)), extra

    def _vectors_of(self, batch: VectorBatch) -> Iterator[Any]:
        """Yield each point's vectors as the engine takes them, without a copy of the numbers."""
        dimension, name = self._shape.dimension, self._shape.vector
        numbers = batch.vectors.reshape(-1).data
        rows = (numbers[at : at + dimension] for at in range(0, len(numbers), dimension))
        if batch.extras is None and batch.counts is None and not self._shape.multivector:
            yield from ({name: row} for row in rows) if name else rows
            return
        for extra, count in zip(batch.extras or [{}] * len(batch), batch.each_count(), strict=True):
            point = {n: _engine_vector(v) for n, v in extra.get(VECTORS, {}).items()}
            own = [next(rows) for _ in range(count)]
            if own:
                point[name] = own if self._shape.multivector else own[0]
            yield point

    def _check_integers(self, point_id: PointId, payload: Mapping[str, Any]) -> None:
        """Refuse integers that the engine would turn into inexact floats without a word."""
        if any(has_large_integer(value) for value in payload.values()):
            raise RefusedError(
                f"{self._place.where} cannot hold a payload of the point {point_id!r}: it has an "
                "integer beyond 64 bits",
                remedy="Keep such numbers as text.",
            )


def is_ascending(params: models.CollectionParams, vector: str) -> bool:
    """Tell whether a lower score is a nearer point."""
    found = dense_params(params).get(vector)
    return found is not None and found.distance in _ASCENDING


def _filter_of(only: Only | None) -> qdrant_edge.Filter | None:
    return engine_filter(filter_of(only))


def _json(vector: Any) -> Any:
    if isinstance(vector, qdrant_edge.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return vector


def _engine_vector(vector: Any) -> Any:
    if isinstance(vector, dict):
        return qdrant_edge.SparseVector(vector["indices"], vector["values"])
    return vector
