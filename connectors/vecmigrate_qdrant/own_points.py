"""Gives points that somebody else may delete meanwhile another vector, or takes it from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from qdrant_client import models

from vecmigrate.connector import (
    IdArray,
    MismatchError,
    PointId,
    Provenance,
    StoreURI,
    UsageError,
    VectorBatch,
    WriteError,
    check_dimension,
)
from vecmigrate_qdrant.describe import existing_collection
from vecmigrate_qdrant.location import VECTOR, parse_location
from vecmigrate_qdrant.marks import State, vector_marks, with_vector_mark
from vecmigrate_qdrant.points import ShardKey
from vecmigrate_qdrant.updater import MarkedUpdater
from vecmigrate_qdrant.upserting import are_there


class OwnPointsUpdater(MarkedUpdater):
    """A vector that was added in place, changed on the points that have or lack it.

    Nothing else of the points changes, and none comes or goes. Those that are not there are passed
    over. The vector keeps its mark as whole; its new provenance is written first.

    Raises
    ------
    UsageError
        If the URI does not name the vector.
    VectorNotFoundError, InputError
        If the vector or the collection is not there.
    MismatchError
        If the vector is unfinished, or was not added in place by vecmigrate.
    WriteError, UnreachableError
        If Qdrant refuses or is not to be reached.
    """

    def __init__(self, uri: StoreURI, provenance: Provenance | None) -> None:
        if not uri.options.get(VECTOR):
            raise UsageError(f"'{uri}' names no vector", remedy="Name it by ?vector=NAME.")
        super().__init__(uri, provenance, parse_location(uri), added=uri.options[VECTOR])

    def _prepare(self, provenance: Provenance | None) -> dict[str, Any]:
        name = self._uri.options[VECTOR]
        self._where = f"the vector {name!r} of {self._access.place}/{self._collection}"
        info = existing_collection(self._access, self._collection)
        self._choose(info, name, vectors_only=True)
        mark = vector_marks(info).get(name)
        if mark is None or mark.state is not State.COMPLETE:
            raise MismatchError(
                f"{self._where} is none that vecmigrate migrate has added and finished",
                remedy="Name one that it added; an unfinished one is completed by migrate.",
            )
        return with_vector_mark(info, name, replace(mark, provenance=provenance))

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._shape.dimension, self._where)
        self._check_lease()
        self._destination.write(batch)

    def delete(self, ids: IdArray) -> None:
        """Take the vector from points; they stay with all else that they have."""
        self._check_lease()
        for key, mine in self._by_key(ids).items():
            if mine:
                self._take(mine, key)

    def _take(self, ids: Sequence[PointId], key: ShardKey | None) -> None:
        chosen = models.PointIdsList(points=list(ids))
        try:
            self._access.run(
                lambda client: client.delete_vectors(
                    self._collection, [self._vector], chosen, wait=True, shard_key_selector=key
                )
            )
        except WriteError:
            left = are_there(self._points.under(key), ids, self._destination.limits)
            if left.all():
                raise
            if left.any():
                self._take(list(compress(ids, left)), key)
