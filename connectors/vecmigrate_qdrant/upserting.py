"""Writes points by id, in requests that a server takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from qdrant_client import models

from vecmigrate.connector import PointId, VectorBatch
from vecmigrate_qdrant.access import Access
from vecmigrate_qdrant.extras import shard_key_of, vectors_of
from vecmigrate_qdrant.vectors import UNNAMED

# A server refuses a REST request beyond 32 MiB by default; the estimate leaves a margin.
REQUEST_BYTES = 24 * 2**20
BYTES_PER_COMPONENT = 24


@dataclass(frozen=True, slots=True)
class Destination:
    """The collection and vector to write.

    Attributes
    ----------
    vector
        The vector's name, or ``UNNAMED``.
    multivector
        True where each point has any number of it.
    vectors_only
        True where the points are there, and only get the vector.
    most
        Points that a request may hold at most; None where that is not limited.
    """

    access: Access
    collection: str
    vector: str
    multivector: bool = False
    vectors_only: bool = False
    most: int | None = None

    def upsert(self, ids: Sequence[PointId], batch: VectorBatch) -> None:
        """Upsert points, to a server in as many requests as their size and shard keys call for.

        Parameters
        ----------
        ids
            The batch's, as Qdrant is to store them.
        """
        if self.access.embedded or batch.extras is None:
            self._upsert_to_shard(ids, batch, None)
            return
        rows: dict[int | str | None, list[int]] = {}
        for row, extra in enumerate(batch.extras):
            rows.setdefault(shard_key_of(extra), []).append(row)
        for key, mine in rows.items():
            part = batch if len(rows) == 1 else batch.take(np.array(mine, np.intp))
            self._upsert_to_shard([ids[row] for row in mine], part, key)

    def _upsert_to_shard(
        self, ids: Sequence[PointId], batch: VectorBatch, shard_key: int | str | None
    ) -> None:
        if not self.access.embedded and len(ids) > 1 and self._is_too_large(batch):
            half = len(ids) // 2
            for low, high in ((0, half), (half, len(ids))):
                part = batch.take(np.arange(low, high))
                self._upsert_to_shard(ids[low:high], part, shard_key)
            return
        if self.vectors_only:
            self._update(ids, batch, shard_key)
            return
        points = self._points(ids, batch)
        self.access.run(
            lambda client: client.upsert(
                self.collection, points, wait=True, shard_key_selector=shard_key
            )
        )

    def _update(
        self, ids: Sequence[PointId], batch: VectorBatch, shard_key: int | str | None
    ) -> None:
        points = [
            models.PointVectors.model_construct(id=point_id, vector=named)
            for point_id, named in zip(ids, self._named(replace(batch, extras=None)), strict=True)
            if named
        ]
        if points:
            self.access.run(
                lambda client: client.update_vectors(
                    self.collection, points, wait=True, shard_key_selector=shard_key
                )
            )

    def _is_too_large(self, batch: VectorBatch) -> bool:
        many = self.most is not None and len(batch) > self.most
        return many or _size(batch) > REQUEST_BYTES

    def _points(
        self, ids: Sequence[PointId], batch: VectorBatch
    ) -> models.Batch | list[models.PointStruct]:
        payloads = None if batch.payloads is None else list(map(dict, batch.payloads))
        if batch.extras is None and batch.counts is None:
            rows = batch.vectors.tolist()
            return models.Batch(
                ids=list(ids),
                vectors=rows if self.vector == UNNAMED else {self.vector: rows},
                payloads=payloads,
            )
        # By columns each point would need each vector.
        return [
            # Checked where it was read; doing so again for each number takes most of the time.
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
                point[self.vector] = own if self.multivector else own[0]
        return points


def _size(batch: VectorBatch) -> int:
    """Estimate the bytes of a request."""
    size = batch.vectors.size * BYTES_PER_COMPONENT
    for parts in (batch.payloads, batch.extras):
        if parts is not None:
            size += len(json.dumps(list(map(dict, parts)), default=str))
    return size
