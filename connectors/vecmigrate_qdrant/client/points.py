"""Points by qdrant-client's own models: embedded storage, and servers over REST."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import PointId, VectorBatch, Vectors, id_array
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.points import (
    UNNAMED,
    Found,
    Only,
    Page,
    Points,
    Shape,
    Wanted,
    check_json,
    plain_id,
    read_extras,
    vectors_of,
)

Record: TypeAlias = models.Record | models.ScoredPoint

BYTES_PER_COMPONENT = 24
"""Of a vector in JSON."""


class ClientPoints(Points):
    """Points that qdrant-client reads and writes.

    Parameters
    ----------
    access
        What carries out requests.
    """

    filters = True

    def __init__(self, access: Access, collection: str, shape: Shape) -> None:
        self._access = access
        self._collection = collection
        self._shape = shape

    def scroll(
        self, limit: int, offset: PointId | None, wanted: Wanted, only: Only | None = None
    ) -> Page:
        records, following = self._access.run(
            lambda client: client.scroll(
                self._collection,
                limit=limit,
                offset=offset,
                scroll_filter=filter_of(only),
                with_payload=wanted.payloads,
                with_vectors=self._shape.selector(wanted),
                shard_key_selector=self.key,
            )
        )
        return Page(
            self._batch(records, wanted), None if following is None else plain_id(following)
        )

    def last_value(self, field: str) -> Any:
        order = models.OrderBy(key=field, direction=models.Direction.DESC)
        records, _ = self._access.run(
            lambda client: client.scroll(
                self._collection, limit=1, order_by=order, with_payload=[field], with_vectors=False
            )
        )
        return (records[0].payload or {}).get(field) if records else None

    def retrieve(self, ids: Sequence[PointId], wanted: Wanted) -> VectorBatch:
        records = self._access.run(
            lambda client: client.retrieve(
                self._collection,
                list(ids),
                with_payload=wanted.payloads,
                with_vectors=self._shape.selector(wanted),
                shard_key_selector=self.key,
            )
        )
        # A server gives points that are asked for by id in an order of its own.
        found = {plain_id(record.id): record for record in records}
        return self._batch([found[i] for i in ids if i in found], wanted)

    def upsert(
        self, ids: Sequence[PointId], batch: VectorBatch, *, insert_only: bool = False
    ) -> None:
        points = self._points(ids, batch)
        mode = models.UpdateMode.INSERT_ONLY if insert_only else None

        def send(client: QdrantBase) -> None:
            if not self._access.embedded:
                check_json(batch.payloads or ())
            client.upsert(
                self._collection, points, wait=True, shard_key_selector=self.key, update_mode=mode
            )

        self._access.run(send)

    def update_vectors(self, ids: Sequence[PointId], batch: VectorBatch) -> None:
        points = [
            models.PointVectors.model_construct(id=point_id, vector=named)
            for point_id, named in zip(ids, self._named(replace(batch, extras=None)), strict=True)
            if named
        ]
        if points:
            self._access.run(
                lambda client: client.update_vectors(
                    self._collection, points, wait=True, shard_key_selector=self.key
                )
            )

    def delete(self, ids: Sequence[PointId]) -> None:
        points = models.PointIdsList(points=list(ids))
        self._access.run(
            lambda client: client.delete(
                self._collection, points, wait=True, shard_key_selector=self.key
            )
        )

    def size(self, batch: VectorBatch) -> int:
        size = batch.vectors.size * BYTES_PER_COMPONENT
        parts = chain(batch.payloads or (), batch.extras or ())
        return size + len(json.dumps(list(map(dict, parts)), default=str))

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
        requests = [
            models.QueryRequest(
                query=row,
                using=None if self._shape.vector == UNNAMED else self._shape.vector,
                limit=k,
                filter=matching,
                params=models.SearchParams(exact=exact, hnsw_ef=ef) if exact or ef else None,
                with_payload=wanted.payloads,
                with_vector=self._shape.selector(wanted),
            )
            for row in queries.tolist()
        ]
        answers = self._access.run(
            lambda client: client.query_batch_points(self._collection, requests)
        )
        return [
            (self._batch(answer.points, wanted), [p.shard_key for p in answer.points])
            for answer in answers
        ]

    def count(self, only: Only | None = None) -> int:
        found = self._access.run(
            lambda client: client.count(
                self._collection, filter_of(only), exact=True, shard_key_selector=self.key
            )
        )
        return found.count

    def _batch(self, records: Sequence[Record], wanted: Wanted) -> VectorBatch:
        shape = self._shape
        vectors = np.empty((0, shape.dimension), np.float32)
        counts: NDArray[np.intp] | None = np.zeros(len(records), np.intp)
        if wanted.vectors:
            vectors, counts = matrix(records, shape)
        return VectorBatch(
            id_array([plain_id(record.id) for record in records]),
            vectors,
            [r.payload or {} for r in records] if wanted.payloads else None,
            extras=read_extras(records, shape.others) if wanted.extras else None,
            counts=counts,
        )

    def _points(
        self, ids: Sequence[PointId], batch: VectorBatch
    ) -> models.Batch | list[models.PointStruct]:
        payloads = None if batch.payloads is None else list(map(dict, batch.payloads))
        if batch.extras is None and batch.counts is None:
            rows = batch.vectors.tolist()
            vector = self._shape.vector
            return models.Batch(
                ids=list(ids),
                vectors=rows if vector == UNNAMED else {vector: rows},
                payloads=payloads,
            )
        # By columns each point would need each vector.
        return [
            # Checked if it was read; doing so again for each number takes most of the time.
            models.PointStruct.model_construct(
                id=point_id, vector=named, payload=None if payloads is None else payloads[row]
            )
            for row, (point_id, named) in enumerate(zip(ids, self._named(batch), strict=True))
        ]

    def _named(self, batch: VectorBatch) -> list[dict[str, Any]]:
        """Return each point's vectors by name."""
        points = [vectors_of(extra) for extra in batch.extras or [{}] * len(batch)]
        rows = iter(batch.vectors.tolist())
        for point, count in zip(points, batch.each_count(), strict=True):
            own = list(islice(rows, count))
            if own:
                point[self._shape.vector] = own if self._shape.multivector else own[0]
        return points


def matrix(records: Sequence[Record], shape: Shape) -> tuple[Vectors, NDArray[np.intp] | None]:
    """Return the records' vectors, and how many of them each record has.

    Returns
    -------
    vectors
        ``(n, dimension)`` float32, C-contiguous.
    counts
        ``(len(records),)``, or None if each has one.
    """
    rows: list[Any] = [
        r.vector.get(shape.vector) if isinstance(r.vector, dict) else r.vector for r in records
    ]
    counts = None
    if shape.multivector:
        counts = np.array([len(row or ()) for row in rows], np.intp)
        rows = list(chain.from_iterable(row or () for row in rows))
    elif any(row is None for row in rows):
        counts = np.array([row is not None for row in rows], np.intp)
        rows = [row for row in rows if row is not None]
    return np.array(rows, dtype=np.float32).reshape(len(rows), shape.dimension), counts


def filter_of(only: Only | None) -> models.Filter | None:
    """Return the filter that lets through the points asked for."""
    if only is None:
        return None
    must: list[models.Condition] = []
    if only.ids is not None:
        must.append(models.HasIdCondition(has_id=list(only.ids)))
    if only.having is not None:
        must.append(models.HasVectorCondition(has_vector=only.having))
    if only.matching is not None:
        must.append(only.matching)
    found = models.Filter(must=must or None)
    if only.lacking is not None:
        found.must_not = [models.HasVectorCondition(has_vector=only.lacking)]
    return found
