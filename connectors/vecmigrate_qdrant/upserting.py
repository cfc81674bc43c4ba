"""Writes points by id, in requests that a server takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vecmigrate.connector import PointId, VectorBatch
from vecmigrate_qdrant.ids import storable_ids
from vecmigrate_qdrant.points import Points, ShardKey
from vecmigrate_qdrant.shard_ids import rows_by_key

# A server refuses a REST request beyond 32 MiB by default; the estimate leaves a margin.
REQUEST_BYTES = 24 * 2**20
BYTES_PER_COMPONENT = 24


@dataclass(frozen=True, slots=True)
class Destination:
    """The points to write.

    Attributes
    ----------
    where
        What is written, for messages.
    keyed
        True if each point is under a shard key, and ids are spelled ``KEY/ID``.
    bounded
        True if a request may not be of any size.
    vectors_only
        True if the points are there, and only get the vector.
    most
        Points that a request may hold at most; None if that is not limited.
    """

    points: Points
    where: str
    keyed: bool = False
    bounded: bool = True
    vectors_only: bool = False
    most: int | None = None

    def write(self, batch: VectorBatch) -> None:
        """Write points in as many requests as their size and shard keys call for.

        Raises
        ------
        MismatchError
            If Qdrant cannot hold an id, naming it.
        """
        if not len(batch):
            return
        if not self.keyed:
            self._write(storable_ids(batch.ids, self.where), batch, None)
            return
        groups = rows_by_key(batch.ids, self.where)
        for key, (rows, ids) in groups.items():
            self._write(ids, batch if len(groups) == 1 else batch.take(rows), key)

    def _write(self, ids: Sequence[PointId], batch: VectorBatch, key: ShardKey | None) -> None:
        if self.bounded and len(ids) > 1 and self._is_too_large(batch):
            half = len(ids) // 2
            for low, high in ((0, half), (half, len(ids))):
                self._write(ids[low:high], batch.take(np.arange(low, high)), key)
        elif self.vectors_only:
            self.points.update_vectors(ids, batch, key)
        else:
            self.points.upsert(ids, batch, key)

    def _is_too_large(self, batch: VectorBatch) -> bool:
        many = self.most is not None and len(batch) > self.most
        return many or _size(batch) > REQUEST_BYTES


def _size(batch: VectorBatch) -> int:
    """Estimate the bytes of a request."""
    size = batch.vectors.size * BYTES_PER_COMPONENT
    for parts in (batch.payloads, batch.extras):
        if parts is not None:
            size += len(json.dumps(list(map(dict, parts)), default=str))
    return size
