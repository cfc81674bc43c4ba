"""Changes points of a Qdrant collection, each in its place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

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
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.access.places import parse_place
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import describe, existing_collection
from vecmigrate_qdrant.ids import canonical_ids
from vecmigrate_qdrant.marks import Mark, State, read_mark, vector_marks
from vecmigrate_qdrant.points import Shape, ShardKey, check_extras, choose_vector, fitting_extras
from vecmigrate_qdrant.shard_keys import (
    KeyedShards,
    by_key,
    create_shard_key,
    is_sharded_by_key,
    read_key_names,
    rows_by_key,
)
from vecmigrate_qdrant.upserting import Destination

_log = logging.getLogger("vecmigrate.qdrant")


class MarkedUpdater(Updater):
    """A collection or a vector that is whole, and keeps its mark while points of it change.

    A subclass opens it, and calls :meth:`_begin` once it knows what changes.
    """

    def __init__(self, uri: StoreURI, collection: str, access: Access) -> None:
        self._uri = uri
        self._collection = collection
        self._access = access
        self._open = True

    def _begin(self, destination: Destination, vector: str, metadata: dict[str, Any]) -> None:
        """Take note of what is written to, and set its metadata with the new provenance."""
        self._destination = destination
        self._vector = vector
        self._metadata = metadata
        self._access.update(self._collection, metadata=metadata)
        self._access.begin_writes(self._collection)

    def _by_key(self, ids: IdArray) -> dict[ShardKey | None, list[PointId]]:
        """Return the ids that Qdrant can hold, by their shard keys."""
        if self._destination.keyed:
            return by_key(ids.tolist())
        return {None: [i for i in canonical_ids(id_array(ids)) if i is not None]}

    def flush(self) -> bool:
        self._access.sync_writes(self._collection)
        return True

    def finish(self) -> CollectionDescription:
        self._access.build_index()
        self._access.publish(self._collection, self._metadata, None)
        self._open = False
        try:
            return describe(
                self._access,
                self._uri,
                self._collection,
                self._vector,
                text_field=self._uri.options.get("text"),
            )
        finally:
            self._access.close()

    def abort(self) -> None:
        # What was written is there: each point as it was or as it is to be.
        if self._open:
            self._open = False
            try:
                self._access.publish(self._collection, self._metadata, None)
            finally:
                self._access.close()


class QdrantUpdater(MarkedUpdater):
    """A whole collection whose points are upserted and deleted by id.

    A point changes in one step, vector and payload together. The collection keeps its mark as
    whole; its new provenance is written first.

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

    def __init__(self, uri: StoreURI, provenance: Provenance) -> None:
        location = parse_place(uri)
        super().__init__(uri, location.collection, open_access(location, refusal=WriteError))
        self._told: set[str] = set()
        self._where = f"{self._access.place}/{self._collection}"
        try:
            # Followed once, so that an alias that is moved meanwhile does not lead writes astray.
            self._collection = self._access.aliases().get(self._collection, self._collection)
            info = existing_collection(self._access, self._collection)
            mark = read_mark(info)
            if uri.options.get("vector") in vector_marks(info):
                raise MismatchError(
                    f"the vector {uri.options['vector']!r} of {self._where} was added in place: "
                    "its points are the source's own",
                    remedy="Add in_place=true to its URI.",
                )
            if mark is None or mark.state is not State.COMPLETE:
                raise MismatchError(
                    f"{self._where} is no finished collection of vecmigrate migrate",
                    remedy="Name one that it wrote; an unfinished one is completed by migrate.",
                )
            params = info.config.params
            wanted = uri.options.get("vector", mark.vector)
            vector = choose_vector(params, wanted, self._where)
            self._shape = Shape.of(params, vector)
            self._points = self._access.points(self._collection, self._shape)
            self._keys: set[ShardKey] | None = None
            if is_sharded_by_key(params):
                self._keys = set(read_key_names(self._access, self._collection))
            destination = Destination.of(self._access, info, self._points, self._where)
            mark = Mark(State.COMPLETE, mark.run, provenance, mark.vector)
            self._begin(destination, vector, mark.as_metadata())
        except BaseException:
            self._access.close()
            raise

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._shape.dimension, self._where)
        check_extras(batch.extras, self._shape.others, self._where)
        if batch.extras is not None:
            batch = batch.with_extras(self._fitting(batch.extras))
        if self._keys is not None:
            self._make_keys(self._keys, rows_by_key(batch.ids, self._where))
        self._destination.write(batch)

    def _make_keys(self, keys: set[ShardKey], wanted: Iterable[ShardKey]) -> None:
        """Make the shard keys that are new at the source."""
        for key in wanted:
            if key not in keys:
                new = KeyedShards(key=key, shards_number=1)
                create_shard_key(self._access, self._collection, new)
                keys.add(key)

    def _fitting(self, extras: Sequence[Extra]) -> list[Extra]:
        """Return what the collection has a place for; what it has none for is told once."""
        fitting, unknown = fitting_extras(extras, self._shape.others)
        if new := unknown - self._told:
            names = ", ".join(map(repr, sorted(new)))
            _log.warning("%s has no vectors %s: not copied", self._where, names)
            self._told |= new
        return fitting

    def delete(self, ids: IdArray) -> None:
        for key, mine in self._by_key(ids).items():
            size = self._destination.limits.delete_size(len(mine))
            for start in range(0, len(mine), size):
                self._points.delete(mine[start : start + size], key)
