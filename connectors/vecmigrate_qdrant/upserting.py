"""Writes points by id, in requests that a server takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import Self

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from vecmigrate.connector import (
    IdArray,
    PointId,
    VectorBatch,
    Vectors,
    WriteError,
    map_in_parallel,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.ids import storable_ids
from vecmigrate_qdrant.limits import Limits
from vecmigrate_qdrant.points import IDS_ALONE, Points, Wanted
from vecmigrate_qdrant.shard_keys import is_sharded_by_key, rows_by_key

# A server refuses a REST request beyond 32 MiB by default; the estimate leaves a margin.
REQUEST_BYTES = 24 * 2**20
# A server takes several requests at once, and the next one is made while it is at work on those.
POINTS_AT_ONCE = 1024
WRITERS = 4


@dataclass(frozen=True, slots=True)
class Destination:
    """The points to write.

    Attributes
    ----------
    if
        What is written, for messages.
    keyed
        True if each point is under a shard key, and ids are spelled ``KEY/ID``.
    bounded
        True if a request may not be of any size.
    vectors_only
        True if the points are there, and only get the vector; those that are not are passed over.
    limits
        What a request may hold.
    """

    points: Points
    where: str
    keyed: bool = False
    bounded: bool = True
    vectors_only: bool = False
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(
        cls,
        access: Access,
        info: models.CollectionInfo,
        points: Points,
        where: str,
        *,
        vectors_only: bool = False,
    ) -> Self:
        """Return the points of a collection that is there."""
        keyed, limits = is_sharded_by_key(info.config.params), Limits.of(info)
        return cls(points, where, keyed, not access.embedded, vectors_only, limits)

    def write(self, batch: VectorBatch) -> None:
        """Write points in as many requests as their size and shard keys call for.

        Raises
        ------
        MismatchError
            If Qdrant cannot hold an id, naming it.
        """
        if not len(batch):
            return
        for points, ids, some in self._groups(batch):
            self._write(points, ids, some)

    def _groups(
        self, batch: VectorBatch
    ) -> Iterator[tuple[Points, Sequence[PointId], VectorBatch]]:
        """Yield where points are to be written, with their ids there, by their shard keys."""
        if not self.keyed:
            yield self.points, storable_ids(batch.ids, self.where), batch
            return
        groups = rows_by_key(batch.ids, self.where)
        for key, (rows, ids) in groups.items():
            yield self.points.under(key), ids, batch if len(groups) == 1 else batch.take(rows)

    def insert(self, batch: VectorBatch, *, cosine: bool) -> IdArray:
        """Write the points that are not there, and leave all others as they are.

        Parameters
        ----------
        cosine
            Vectors are compared by their directions.

        Returns
        -------
        IdArray
            Ids of points that are there with another vector than the batch's, or without one: they
            are others'. What an earlier try has written is none of these.

        Raises
        ------
        MismatchError
            If Qdrant cannot hold an id, naming it.
        """
        others = []
        for points, ids, some in self._groups(batch):
            there = are_there(points, ids, self.limits)
            if not there.all():
                new = ~there
                self._write(points, list(compress(ids, new)), some.take(new), insert_only=True)
            if there.any():
                mine = some.take(there)
                same = self._are_as(points, list(compress(ids, there)), mine, cosine=cosine)
                others.append(mine.ids[~same])
        return np.concatenate(others) if others else batch.ids[:0]

    def _are_as(
        self, points: Points, ids: Sequence[PointId], batch: VectorBatch, *, cosine: bool
    ) -> NDArray[np.bool_]:
        """Tell which points are there with the batch's vector."""
        wanted = dict(
            zip(ids, np.split(batch.vectors, np.cumsum(batch.each_count())[:-1]), strict=True)
        )
        same = dict.fromkeys(ids, False)
        size = self.limits.retrieve_size(POINTS_AT_ONCE)
        for low in range(0, len(ids), size):
            found = points.retrieve(ids[low : low + size], _VECTORS_ALONE)
            held = np.split(found.vectors, np.cumsum(found.each_count())[:-1])
            for point, has in zip(found.ids.tolist(), held, strict=True):
                same[point] = _alike(wanted[point], has, cosine=cosine)
        return np.array(list(same.values()), np.bool_)

    def delete(self, ids: IdArray) -> None:
        """Delete points; ids that are not there are passed over."""
        groups = (
            {key: mine for key, (_, mine) in rows_by_key(ids, self.where).items()}
            if self.keyed
            else {None: storable_ids(ids, self.where)}
        )
        for key, mine in groups.items():
            points = self.points if key is None else self.points.under(key)
            size = self.limits.delete_size(len(mine))
            for start in range(0, len(mine), size):
                points.delete(mine[start : start + size])

    def _write(
        self,
        points: Points,
        ids: Sequence[PointId],
        batch: VectorBatch,
        *,
        insert_only: bool = False,
    ) -> None:
        send: Callable[[Sequence[PointId], VectorBatch], None]
        if self.vectors_only:
            send = partial(self._update, points)
        else:
            send = partial(points.upsert, insert_only=insert_only)
        if not self.bounded:
            send(ids, batch)
            return
        requests = self._requests(ids, batch)
        if len(batch) <= self.limits.upsert_size(POINTS_AT_ONCE):
            for request in requests:
                send(*request)
            return
        for _ in map_in_parallel(
            lambda request: send(*request), requests, WRITERS, name="qdrant-writer"
        ):
            pass

    def _update(self, points: Points, ids: Sequence[PointId], batch: VectorBatch) -> None:
        """Write the vectors of those points that are there.

        Qdrant refuses a request for one id that it does not hold, having done some of it. Each
        further try is of fewer points, so that they end.
        """
        while len(ids):
            try:
                points.update_vectors(ids, batch)
                return
            except WriteError:
                left = are_there(points, ids, self.limits)
                if left.all():
                    raise
                ids, batch = list(compress(ids, left)), batch.take(left)

    def _requests(
        self, ids: Sequence[PointId], batch: VectorBatch
    ) -> Iterator[tuple[Sequence[PointId], VectorBatch]]:
        """Yield parts of a batch that are each small enough for a request."""
        most = self.limits.upsert_size(POINTS_AT_ONCE)
        if len(ids) > most:
            for low in range(0, len(ids), most):
                part = ids[low : low + most]
                yield from self._requests(part, batch.take(np.arange(low, low + len(part))))
        elif len(ids) > 1 and self.points.size(batch) > REQUEST_BYTES:
            half = len(ids) // 2
            for low, high in ((0, half), (half, len(ids))):
                yield from self._requests(ids[low:high], batch.take(np.arange(low, high)))
        else:
            yield ids, batch


_VECTORS_ALONE = Wanted(vectors=True, payloads=False)
_SAME = 1e-3
"""How far a vector may lie from another that is taken for the same, relative to its length: more
than any store rounds, and far less than an encoder and a map differ."""


def _alike(ours: Vectors, theirs: Vectors, *, cosine: bool) -> bool:
    if ours.shape != theirs.shape or not len(ours):
        return len(ours) == len(theirs)
    if cosine:
        ours, theirs = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (ours, theirs))
    far = np.linalg.norm(ours - theirs, axis=1)
    return bool((far <= _SAME * np.linalg.norm(ours, axis=1)).all())


def are_there(points: Points, ids: Sequence[PointId], limits: Limits) -> NDArray[np.bool_]:
    """Tell which of ``n`` ids there are; raises as :meth:`Points.retrieve`."""
    found: set[PointId] = set()
    size = limits.retrieve_size(POINTS_AT_ONCE)
    for low in range(0, len(ids), size):
        asked = ids[low : low + size]
        found.update(points.retrieve(asked, IDS_ALONE).ids.tolist())
    return np.array([i in found for i in ids], np.bool_)
