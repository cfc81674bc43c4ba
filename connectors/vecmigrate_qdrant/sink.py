"""A Qdrant collection being written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue
from qdrant_client import models

from vecmigrate.connector import (
    Absent,
    CollectionDescription,
    IdArray,
    MismatchError,
    StoreURI,
    TargetExistsError,
    TargetSpec,
    VectorBatch,
    WriteError,
)
from vecmigrate_qdrant.access.places import parse_place
from vecmigrate_qdrant.indexing import await_index, put_off_indexing, resume_indexing
from vecmigrate_qdrant.leased_sink import LeasedSink
from vecmigrate_qdrant.marks import Mark, State, read_mark
from vecmigrate_qdrant.points import UNNAMED, Shape
from vecmigrate_qdrant.settings import (
    creation_arguments,
    fan_out,
    forbids_indexing,
    is_multivector,
    others,
    payload_indexes,
    strict_mode,
)
from vecmigrate_qdrant.shard_keys import MadeKeys, create_shard_key, rows_by_key, shard_keys
from vecmigrate_qdrant.upserting import Destination

SHARED = "/"
"""Between the run and the lease in a token for other processes."""


class QdrantSink(LeasedSink):
    """A new Qdrant collection; marked in its metadata as unfinished until :meth:`finish`.

    A checkpoint's token is the run that the mark names; points are written again by id. To other
    processes the token names the lease too: they write under it as long as it lasts.

    Raises
    ------
    UsageError
        If the URI is not understood.
    TargetExistsError
        If a collection or an alias of this name is there, unless it is what an earlier run left
        unfinished and ``restart`` is given or that was the same run, or did the same work.
    LockedError
        If another run writes it now, or, from any method, took it over.
    MismatchError
        If the settings are not Qdrant's, or the server is too old to keep the mark.
    WriteError, UnreachableError
        If Qdrant refuses the collection or is not to be reached.
    """

    absent = Absent.WRITTEN
    _mark: Mark

    def __init__(self, uri: StoreURI, spec: TargetSpec) -> None:
        super().__init__(uri, spec, parse_place(uri))
        settings = self._settings
        self._vector = uri.options.get("vector", str(settings.get("vector", UNNAMED)))
        self._strict_mode, notes = strict_mode(settings, spec)
        self._arguments, self._notes = creation_arguments(
            settings, self._vector, spec.dimension, spec.metric
        )
        self._notes += notes
        self._description: CollectionDescription | None = None
        self._shared = ""

    def begin(self, *, restart: bool) -> None:
        """Make the collection."""
        with self._opened(self._new_run(), anew=True):
            self._begin_open(restart)

    def _begin_open(self, restart: bool) -> None:
        settings = self._settings
        self._make_way(restart)
        self._create()
        if not self._access.embedded:
            for shards in shard_keys(settings):
                create_shard_key(self._access, self._collection, shards)
            fan = fan_out(settings)
            if fan is not None:
                self._access.update(self._collection, collection_params=fan)
        self._index_payloads(payload_indexes(settings))
        self._tell_if_never_indexed()
        self._mark = put_off_indexing(self._access, self._collection, self._mark)

    def resume(self, token: str) -> None:
        """Go on with the collection that the token's run made."""
        run, _, self._shared = token.partition(SHARED)
        with self._opened(run, anew=False):
            self._mark = self._find_own()

    def _destined(self) -> Destination:
        settings, dimension = self._settings, self._spec.dimension
        self._mark = Mark(State.WRITING, self._run, vector=self._vector, work=self._spec.work)
        self.concurrent = not self._access.embedded
        self.keyed_ids = bool(shard_keys(settings)) and self.concurrent
        self._keys = MadeKeys(self._access, self._collection)
        self._notes += self._not_kept(settings)
        shape = Shape(self._vector, dimension, is_multivector(settings), others(settings))
        points = self._access.points(self._collection, shape)
        return Destination(points, self._where, keyed=self.keyed_ids, bounded=self.concurrent)

    def _metadata(self, mark: Mark) -> dict[str, Any]:
        return mark.as_metadata()

    def write(self, batch: VectorBatch) -> IdArray | None:
        self._make_keys(batch)
        return super().write(batch)

    def _make_keys(self, batch: VectorBatch) -> None:
        """Make the shard keys that the source may have got since the target was made."""
        if self.keyed_ids:
            self._keys.require(rows_by_key(batch.ids, self._where))

    def finish(self) -> CollectionDescription:
        if self._description is not None:
            return self._description
        self._lease.renew()
        resume_indexing(self._access, self._collection, self._mark)
        notes = (*self._notes, *await_index(self._access, self._collection))
        made = self._spec.provenance_as_of(self.as_of)
        mark = Mark(State.COMPLETE, self._run, made, self._vector)
        self._description = self._publish(mark, notes, self._strict_mode)
        return self._description

    def checkpoint(self) -> str:
        token = super().checkpoint()
        if self._shared:
            self._lease.confirm(self._shared)
        return token

    def share(self) -> str:
        return f"{self.checkpoint()}{SHARED}{self._lease.id}"

    def _remove_own(self) -> None:
        if self._owns():
            self._access.run(lambda client: client.delete_collection(self._collection))

    def _find_own(self) -> Mark:
        """Make sure that the collection is the one that the run to continue was writing."""
        name = self._collection
        if not self._access.exists(self._collection):
            raise MismatchError(
                f"nothing is left of the unfinished collection {self._where}",
                remedy="Start over with --restart.",
            )
        mark = read_mark(self._access.info(name))
        provenance = self._spec.provenance
        if mark and provenance and mark.run == provenance.run() != self._run:
            raise MismatchError(
                f"{self._run!r} is no checkpoint of {self._where}",
                remedy="Start over with --restart.",
            )
        if mark is None or mark.run != self._run or mark.state is State.COMPLETE:
            self._lease.clear()
            raise TargetExistsError(
                f"{self._named} is there already",
                remedy="Name another target, or delete that collection yourself.",
            )
        if self._shared:
            self._lease.confirm(self._shared)
        else:
            self._lease.claim()
        self._created = True
        return mark

    def _make_way(self, restart: bool) -> None:
        """Make sure that nothing is at the target's name."""
        name = self._collection
        if not self._access.exists(self._collection):
            return
        if (aliased := self._access.aliases().get(name)) is not None:
            raise TargetExistsError(
                f"{self._where} is there, as an alias of {aliased!r}",
                remedy="Name another target; switch the alias over once the migration is done.",
            )
        mark = read_mark(self._access.info(name))
        if mark is None or mark.state is State.COMPLETE:
            raise TargetExistsError(
                f"{self._named} is there already",
                remedy="Name another target, or delete that collection yourself.",
            )
        self._lease.await_free()
        self._begin_anew(
            mark, restart=restart, count=lambda: self._access.info(name).points_count or 0
        )
        # Held while it is removed, so that no other run removes what this one makes next.
        self._lease.claim()
        self._access.run(lambda client: client.delete_collection(name))

    def _create(self) -> None:
        carried = self._settings.get("metadata")
        mark = self._mark.as_metadata() | self._lease.entry()
        metadata = {**carried, **mark} if isinstance(carried, dict) else mark
        try:
            self._access.run(
                lambda client: client.create_collection(
                    self._collection, metadata=metadata, **self._arguments
                )
            )
        except WriteError:
            # A retry is refused if the first try came through and only its answer was lost.
            if not self._access.exists(self._collection):
                raise
            if not self._owns():
                self._lease.await_free()
                raise TargetExistsError(
                    f"{self._named} was made by somebody else just now",
                    remedy="Name another target.",
                ) from None
        self._created = True
        if not self._owns():
            self._access.run(lambda client: client.delete_collection(self._collection))
            self._created = False
            raise MismatchError(
                f"{self._access.place} does not keep a collection's metadata, by which a finished "
                "collection is told from an unfinished one",
                remedy="Use Qdrant 1.16 or newer as the target.",
            )
        self._lease.begin()

    def _not_kept(self, settings: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """Say which settings an embedded target has no place for, or an embedded source told."""
        if self._access.embedded:
            names = self._access.unkept(settings)
            return (f"embedded Qdrant keeps no {', '.join(names)}",) if names else ()
        if settings and "hnsw_config" not in settings:
            return (
                "embedded Qdrant tells no index, optimiser or sharding settings: the server's "
                "own are used",
            )
        return ()

    def _tell_if_never_indexed(self) -> None:
        reason = None
        if not self._access.embedded:
            reason = forbids_indexing(self._access.info(self._collection))
        if reason is not None:
            self.warnings += (
                f"the source's own settings, which {self._where} gets, forbid indexing "
                f"({reason}): searches will compare with all points",
            )

    def _owns(self) -> bool:
        """True if the collection is the one that this sink made."""
        info = self._access.info(self._collection)
        mark = read_mark(info)
        return mark is not None and mark.run == self._run and self._lease.is_in(info)

    def _index_payloads(self, indexes: Mapping[str, models.PayloadFieldSchema]) -> None:
        if indexes and not self._access.indexed:
            self._notes += (f"embedded Qdrant has no payload indexes: {', '.join(indexes)}",)
            return
        # Before the points: the vector index links points by their indexed payload values as it
        # is built, and is not built again for an index that comes later.
        for name, schema in indexes.items():
            self._index_payload(name, schema)

    def _index_payload(self, name: str, schema: models.PayloadFieldSchema) -> None:
        self._access.run(
            lambda client: client.create_payload_index(
                self._collection, name, field_schema=schema, wait=True
            )
        )
