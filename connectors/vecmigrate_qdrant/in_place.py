"""A named vector added to the points of a collection that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qdrant_client import models

from vecmigrate.connector import (
    Absent,
    CollectionDescription,
    InputError,
    MismatchError,
    StoreURI,
    TargetExistsError,
    TargetSpec,
    UsageError,
    WriteError,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.describe import count_points, existing_collection
from vecmigrate_qdrant.indexing import await_index
from vecmigrate_qdrant.leased_sink import LeasedSink
from vecmigrate_qdrant.limits import limit_behind
from vecmigrate_qdrant.location import parse_location
from vecmigrate_qdrant.marks import Mark, State, read_mark, vector_marks, with_vector_mark
from vecmigrate_qdrant.points import Only, Shape, dense_params
from vecmigrate_qdrant.settings import DISTANCES, is_multivector, understood
from vecmigrate_qdrant.shard_keys import is_sharded_by_key
from vecmigrate_qdrant.upserting import Destination

# What can be set of a vector only once it is there.
_TUNED = ("hnsw_config", "quantization_config", "on_disk")


class InPlaceSink(LeasedSink):
    """The translated vectors beside the old ones, under a name of their own.

    Points that are deleted while it is written are passed over.

    Nothing else of the collection changes but its metadata, which say how far the vector has come:
    until :meth:`finish`, a reader of the vector is told that it is unfinished.

    Raises
    ------
    UsageError
        If the URI does not name the vector.
    InputError
        If the collection is not there.
    TargetExistsError
        If it has a vector of this name, unless an earlier run left it unfinished and
        ``restart`` is given or that was the same run, or did the same work.
    LockedError
        If another run writes it now, or, from any method, took it over.
    MismatchError
        If the server is older than Qdrant 1.18.
    WriteError, UnreachableError
        If Qdrant refuses or is not to be reached.
    """

    absent = Absent.PASSED_OVER
    in_place = True

    def __init__(self, uri: StoreURI, spec: TargetSpec) -> None:
        name = uri.options.get("vector")
        super().__init__(uri, spec, parse_location(uri), added=name)
        if not name:
            raise UsageError(
                f"'{uri}' does not name the vector to add", remedy="Name it by ?vector=NAME."
            )
        self._vector = name

    def begin(self, *, restart: bool) -> None:
        """Add the vector to the collection."""
        with self._opened(self._new_run(), anew=True):
            self._make_way(restart)
            self._create(self._settings.get("vector_params") or {})

    def resume(self, token: str) -> None:
        """Go on with the vector that the token's run added."""
        with self._opened(token, anew=False):
            mark = self._mark()
            if mark is None:
                raise MismatchError(
                    f"nothing is left of {self._where}, which an earlier run left unfinished",
                    remedy="Start over with --restart.",
                )
            if (mark.state, mark.run) != (State.WRITING, token):
                raise self._is_there()
            self._lease.claim()
            self._created = True

    def _destined(self) -> Destination:
        info = self._info()
        self.keyed_ids = is_sharded_by_key(info.config.params)
        shape = Shape(self._vector, self._spec.dimension, is_multivector(self._settings))
        points = self._access.points(self._collection, shape)
        return Destination.of(self._access, info, points, self._where, vectors_only=True)

    def _metadata(self, mark: Mark) -> dict[str, Any]:
        return with_vector_mark(self._info(), self._vector, mark)

    def finish(self) -> CollectionDescription:
        notes = await_index(self._access, self._collection)
        return self._publish(Mark(State.COMPLETE, self._run, self._spec.provenance), notes)

    def _remove_own(self) -> None:
        if self._mark() is not None and self._lease.is_in(self._info()):
            remove_vector(self._access, self._collection, self._vector)

    def _info(self) -> models.CollectionInfo:
        return existing_collection(self._access, self._collection)

    def _mark(self) -> Mark | None:
        return vector_marks(self._info()).get(self._vector)

    def _make_way(self, restart: bool) -> None:
        """Make sure that the collection has no vector of the name."""
        info = self._info()
        mark, params = vector_marks(info).get(self._vector), info.config.params
        there = self._vector in dense_params(params) or self._vector in (
            params.sparse_vectors or {}
        )
        if there and (mark is None or mark.state is State.COMPLETE):
            raise self._is_there()
        self._lease.await_free()
        if mark is not None:
            self._begin_anew(
                mark,
                restart=restart or not there,
                count=lambda: count_points(
                    self._access, self._collection, Only(having=self._vector)
                ),
            )
        # Nothing but the lease keeps two runs from making the same vector.
        self._lease.claim()
        if there or mark is not None:
            remove_vector(self._access, self._collection, self._vector)

    def _is_there(self) -> TargetExistsError:
        return TargetExistsError(
            f"{self._where} is there already",
            remedy="Name another one by ?vector=NAME, or delete that one yourself.",
        )

    def _create(self, stored: Any) -> None:
        datatype = stored.get("datatype")
        with understood("vector"):
            config = models.DenseVectorConfig(
                size=self._spec.dimension,
                distance=DISTANCES[self._spec.metric],
                multivector_config=stored.get("multivector_config"),
                # Translated vectors are no whole numbers.
                datatype=None if datatype == models.Datatype.UINT8.value else datatype,
            )
            tuned = {name: stored[name] for name in _TUNED if stored.get(name) is not None}
            diff = models.VectorParamsDiff.model_validate(tuned)
        # First the mark: a vector without one would never be taken for what a killed run left.
        mark = Mark(State.WRITING, self._run, work=self._spec.work)
        self._access.update(self._collection, metadata=self._metadata(mark))
        self._created = True
        named = models.DenseVectorNameConfig(dense=config)
        _change(
            self._access,
            self._where,
            lambda client: client.create_vector_name(self._collection, self._vector, named),
        )
        if tuned and not self._access.embedded:
            self._access.update(self._collection, vectors_config={self._vector: diff})


def remove_vector(access: Access, collection: str, name: str) -> None:
    """Remove a named vector from a collection and from its metadata; the points stay.

    Raises
    ------
    InputError
        If the collection is not there.
    MismatchError
        If the server is older than Qdrant 1.18.
    WriteError, UnreachableError
        If Qdrant refuses or is not to be reached.
    """
    info = existing_collection(access, collection)
    if name in dense_params(info.config.params):
        where = f"the vector {name!r} of {access.place}/{collection}"
        _change(access, where, lambda client: client.delete_vector_name(collection, name))
    metadata = with_vector_mark(info, name, None)
    mark = read_mark(info)
    if mark is not None and mark.vector == name:
        # Who opens the collection without naming a vector would be sent to this one.
        metadata |= replace(mark, vector=None).as_metadata()
    access.update(collection, metadata=metadata)


def _change(access: Access, where: str, request: Callable[[Any], object]) -> None:
    try:
        access.run(request)
    except (InputError, WriteError) as error:
        if limit_behind(error.message) is not None:
            raise
        raise MismatchError(
            f"{where} cannot be added or removed: {error.message}",
            remedy="A server must be Qdrant 1.18 or newer, and a collection have named vectors "
            "only; else migrate to a new collection.",
        ) from error
