"""A Qdrant collection that applications write to, while it gets the points that it lacks."""

from __future__ import annotations

from qdrant_client import models

from vecmigrate.connector import (
    IdArray,
    Metric,
    MismatchError,
    TargetExistsError,
    VectorBatch,
    check_dimension,
)
from vecmigrate_qdrant.describe import existing_collection
from vecmigrate_qdrant.marks import METADATA_KEY, State, read_mark
from vecmigrate_qdrant.points import Shape, choose_vector, dense_params
from vecmigrate_qdrant.settings import DISTANCES
from vecmigrate_qdrant.shard_keys import is_sharded_by_key
from vecmigrate_qdrant.sink import QdrantSink
from vecmigrate_qdrant.upserting import Destination

_SINCE = (1, 17)
"""The first version of a server that inserts without replacing."""


class SharedSink(QdrantSink):
    """A collection that applications made, or that is made for them, and that they write to.

    A point that is there is left as it is, in one step with the insertion of those that are not.
    The collection stays with all its points whatever becomes of the run, and gets a mark that says
    how far the run has come.

    Raises
    ------
    TargetExistsError
        If vecmigrate has written it before, or another run writes it by other means.
    MismatchError
        If its vectors are of another dimension or metric, or the server is older than 1.17.
    """

    shared = True
    deletes = False

    def _begin_open(self, restart: bool) -> None:
        self._check_version()
        if not self._access.exists(self._collection):
            super()._begin_open(restart)
            return
        if (aliased := self._access.aliases().get(self._collection)) is not None:
            raise TargetExistsError(
                f"{self._where} is an alias of {aliased!r}", remedy="Name the collection itself."
            )
        info = existing_collection(self._access, self._collection)
        self._join(info)
        mark = read_mark(info)
        if mark is not None and mark.state is State.COMPLETE:
            raise TargetExistsError(
                f"{self._named} is there already, and vecmigrate has written it",
                remedy="Bring it in step by vecmigrate sync --shared-target.",
            )
        self._lease.await_free()
        if mark is not None and mark.run != self._run and not restart:
            self._check_same_work(mark.work)
        self._lease.claim()
        self._access.update(self._collection, metadata=self._metadata(self._mark))
        self._created = True

    def resume(self, token: str) -> None:
        super().resume(token)
        self._join(existing_collection(self._access, self._collection))

    def write(self, batch: VectorBatch) -> IdArray:
        check_dimension(batch, self._spec.dimension, self._where)
        self._lease.check()
        self._make_keys(batch)
        return self._destination.insert(batch, cosine=self._spec.metric is Metric.COSINE)

    def _destined(self) -> Destination:
        destination = super()._destined()
        # Whose a point is would be seen by none of several writers.
        self.concurrent = False
        return destination

    def _join(self, info: models.CollectionInfo) -> None:
        """Write to the collection as it is made.

        Raises
        ------
        MismatchError
            If the points do not fit there.
        """
        params = info.config.params
        self._vector = choose_vector(params, self._uri.options.get("vector"), self._where)
        made = dense_params(params)[self._vector]
        wanted = DISTANCES[self._spec.metric]
        if (made.size, made.distance) != (self._spec.dimension, wanted):
            raise MismatchError(
                f"{self._where} has vectors of {made.size} dimensions compared by "
                f"{made.distance.value}, and those that are moved have {self._spec.dimension}, "
                f"compared by {wanted.value}",
                remedy="Make the collection anew, for the new encoder.",
            )
        self.keyed_ids = is_sharded_by_key(params) and not self._access.embedded
        points = self._access.points(self._collection, Shape.of(params, self._vector))
        self._destination = Destination.of(self._access, info, points, self._where)

    def _remove_own(self) -> None:
        if self._owns():
            # The points are others' too, and theirs are not told from ours here.
            self._access.update(self._collection, metadata={METADATA_KEY: None})

    def _check_same_work(self, work: str | None) -> None:
        if self._spec.work is None or work != self._spec.work:
            raise TargetExistsError(
                f"{self._named} is there, unfinished: another run, which moved other things or by "
                "other means, has written points there, which cannot be told from those of "
                "applications",
                remedy="Run that one again to complete it, or make the collection anew.",
            )

    def _check_version(self) -> None:
        if self._access.embedded:
            return
        version = self._access.run(lambda client: client.info()).version
        if tuple(int(part) for part in version.split(".")[:2]) < _SINCE:
            raise MismatchError(
                f"{self._access.place} is Qdrant {version}, which cannot insert points without "
                "replacing what is there",
                remedy="Use Qdrant 1.17 or newer, or leave --shared-target out.",
            )
