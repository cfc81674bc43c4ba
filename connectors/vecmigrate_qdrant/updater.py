"""Changes points of a Qdrant collection, each in its place."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from qdrant_client import models

from vecmigrate.connector import (
    CollectionDescription,
    Extra,
    IdArray,
    MismatchError,
    PointId,
    Provenance,
    StoreURI,
    Updater,
    VectorBatch,
    WriteError,
    check_dimension,
    id_array,
)
from vecmigrate_qdrant.access.places import Location, parse_place
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import describe, existing_collection
from vecmigrate_qdrant.ids import canonical_ids
from vecmigrate_qdrant.lease import CollectionLease
from vecmigrate_qdrant.marks import State, read_mark, vector_marks
from vecmigrate_qdrant.points import Points, Shape, ShardKey, choose_vector, fitting_extras
from vecmigrate_qdrant.shard_keys import (
    MadeKeys,
    by_key,
    rows_by_key,
)
from vecmigrate_qdrant.upserting import Destination

_log = logging.getLogger("vecmigrate.qdrant")


class MarkedUpdater(Updater):
    """A collection or a vector that is whole, and keeps its mark while points of it change.

    Parameters
    ----------
    added
        The vector that was added to a collection in place; None for a collection of vecmigrate's.

    Raises
    ------
    LockedError
        If another run changes it now, or, from any method, took it over.
    """

    _vector: str
    _shape: Shape
    _points: Points
    _destination: Destination

    def __init__(
        self,
        uri: StoreURI,
        provenance: Provenance | None,
        location: Location,
        added: str | None = None,
    ) -> None:
        self._uri = uri
        self._collection = location.collection
        self._access = open_access(location, refusal=WriteError)
        self._where = f"{self._access.place}/{self._collection}"
        self._open = True
        self._lease: CollectionLease | None = None
        try:
            self._prepare(provenance)
            self._lease = CollectionLease(self._access, self._collection, self._where, added)
            if provenance is None:
                self._lease.claim_if_kept()
            else:
                self._lease.claim()
            # Again, since another run may have changed it until then.
            self._metadata = self._prepare(provenance)
            if self._metadata:
                self._access.update(self._collection, metadata=self._metadata)
            self._access.begin_writes(self._collection)
        except BaseException:
            self._close()
            raise

    @abstractmethod
    def _prepare(self, provenance: Provenance | None) -> dict[str, Any]:
        """Find what changes, and return its metadata with the new provenance."""

    def _choose(
        self, info: models.CollectionInfo, vector: str | None, *, vectors_only: bool
    ) -> None:
        """Take note of the points and the vector to change."""
        params = info.config.params
        self._vector = choose_vector(params, vector, self._where)
        self._shape = Shape.of(params, self._vector)
        self._points = self._access.points(self._collection, self._shape)
        self._destination = Destination.of(
            self._access, info, self._points, self._where, vectors_only=vectors_only
        )

    def _by_key(self, ids: IdArray) -> dict[ShardKey | None, list[PointId]]:
        """Return the ids that Qdrant can hold, by their shard keys."""
        if self._destination.keyed:
            return by_key(ids.tolist())
        return {None: [i for i in canonical_ids(id_array(ids)) if i is not None]}

    def _check_lease(self) -> None:
        """Raise :class:`LockedError` if another run took over."""
        assert self._lease is not None
        self._lease.check()

    def flush(self) -> bool:
        self._access.sync_writes(self._collection)
        self._check_lease()
        return True

    def finish(self) -> CollectionDescription:
        assert self._lease is not None
        self._access.build_index()
        self._lease.renew()
        self._access.publish(self._collection, self._metadata, None)
        self._open = False
        self._lease.release()
        with closing(self._access) as access:
            return describe(access, self._uri, self._collection, self._vector)

    def abort(self) -> None:
        # What was written is there: each point as it was or as it is to be.
        if self._open:
            self._open = False
            try:
                if self._lease is not None and not self._lease.is_lost:
                    self._access.publish(self._collection, self._metadata, None)
            finally:
                self._close()

    def _close(self) -> None:
        if self._lease is not None:
            self._lease.release()
        self._access.close()


class QdrantUpdater(MarkedUpdater):
    """A whole collection whose points are upserted and deleted by id.

    A point changes in one step, vector and payload together. The collection keeps its mark as
    whole; its new provenance is written first. Without a provenance, one that has no mark may be
    anybody's, and gets none.

    Raises
    ------
    InputError
        If the collection is not there.
    MismatchError
        If it is unfinished or not vecmigrate's; on an upsert, if it has other vectors, which
        points without them would lose.
    WriteError, UnreachableError
        If Qdrant refuses or is not to be reached.
    """

    def __init__(self, uri: StoreURI, provenance: Provenance | None) -> None:
        self._told: set[str] = set()
        self._keys: MadeKeys | None = None
        super().__init__(uri, provenance, parse_place(uri))

    def _prepare(self, provenance: Provenance | None) -> dict[str, Any]:
        # Followed once, so that an alias that is moved meanwhile does not lead writes astray.
        self._collection = self._access.aliases().get(self._collection, self._collection)
        info = existing_collection(self._access, self._collection)
        mark, wanted = read_mark(info), self._uri.options.get("vector")
        if wanted in vector_marks(info):
            raise MismatchError(
                f"the vector {wanted!r} of {self._where} was added in place: its points are the "
                "source's own",
                remedy="Add in_place=true to its URI.",
            )
        anothers = mark is None and provenance is None
        if not anothers and (mark is None or mark.state is not State.COMPLETE):
            raise MismatchError(
                f"{self._where} is no finished collection of vecmigrate migrate",
                remedy="Name one that it wrote; an unfinished one is completed by migrate.",
            )
        chosen = mark.vector if mark is not None and wanted is None else wanted
        self._choose(info, chosen, vectors_only=False)
        if self._destination.keyed:
            self._keys = MadeKeys(self._access, self._collection)
        if mark is None:
            return {}
        return replace(mark, provenance=provenance or mark.provenance).as_metadata()

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._shape.dimension, self._where)
        self._check_lease()
        others = self._shape.others
        if batch.extras is not None:
            batch = batch.with_extras(self._fitting(batch.extras))
        elif others:
            raise MismatchError(
                f"{self._where} has other vectors ({', '.join(map(repr, sorted(others)))}) than "
                "its source, which changed points would lose",
                remedy="Keep them in a collection of their own.",
            )
        if self._keys is not None:
            self._keys.require(rows_by_key(batch.ids, self._where))
        self._destination.write(batch)

    def _fitting(self, extras: Sequence[Extra]) -> list[Extra]:
        """Return what the collection has a place for; what it has none for is told once."""
        fitting, unknown = fitting_extras(extras, self._shape.others)
        if new := unknown - self._told:
            names = ", ".join(map(repr, sorted(new)))
            _log.warning("%s has no vectors %s: not copied", self._where, names)
            self._told |= new
        return fitting

    def delete(self, ids: IdArray) -> None:
        self._check_lease()
        for key, mine in self._by_key(ids).items():
            size = self._destination.limits.delete_size(len(mine))
            for start in range(0, len(mine), size):
                self._points.under(key).delete(mine[start : start + size])
