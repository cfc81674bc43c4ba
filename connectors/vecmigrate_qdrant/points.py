"""The face of whatever holds the points of a collection, a request at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from qdrant_client import models

from vecmigrate.connector import IdArray, PointId, VectorBatch, Vectors
from vecmigrate_qdrant.vectors import UNNAMED, dense_params, other_vectors

ShardKey: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Shape:
    """What the points of a collection are, as far as it is moved.

    Attributes
    ----------
    vector
        The name of the vector that is read or written, or ``UNNAMED``.
    dimension
        Length of that vector.
    multivector
        True if a point has any number of that vector.
    others
        Names of the points' other vectors, sparse ones included.
    """

    vector: str
    dimension: int
    multivector: bool = False
    others: frozenset[str] = frozenset()

    @classmethod
    def of(cls, params: models.CollectionParams, vector: str) -> Shape:
        """Return the shape of a collection with these parameters, seen from ``vector``."""
        own = dense_params(params)[vector]
        return cls(
            vector,
            own.size,
            own.multivector_config is not None,
            frozenset(other_vectors(params, vector)),
        )

    def selector(self) -> bool | list[str]:
        """Return what asks a request for the vector and no other."""
        return [self.vector] if self.vector != UNNAMED or self.others else True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read of each point beside its id.

    Attributes
    ----------
    vectors
        The vector that the shape names.
    payloads
        The payload.
    extras
        The other vectors; only with ``vectors``.
    """

    vectors: bool = True
    payloads: bool = True
    extras: bool = False


@dataclass(frozen=True, slots=True)
class Only:
    """Which points alone are asked for.

    Attributes
    ----------
    ids
        Those with these ids.
    having, lacking
        Those with, or without, a vector of this name.
    matching
        Those that a filter takes; only if :attr:`Points.filters` is True.
    """

    ids: tuple[PointId, ...] | None = None
    having: str | None = None
    lacking: str | None = None
    matching: models.Filter | None = None


IDS_ALONE = Wanted(vectors=False, payloads=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Points that follow one another in the order of their ids.

    Attributes
    ----------
    batch
        The points, without a cursor; without vectors if none were asked for.
    following
        The id that comes next; None at the end.
    """

    batch: VectorBatch
    following: PointId | None


class Points(ABC):
    """Reads and writes points; each call is one request.

    Ids are those that Qdrant has, unique within a shard key. ``key`` names the shard key of a
    collection with custom sharding, None in any other one.

    Every method raises :class:`InputError` or :class:`WriteError` if Qdrant refuses the request
    (which of the two was said when Qdrant was opened), and :class:`UnreachableError` if a server
    does not answer.

    Attributes
    ----------
    filters
        True if the points asked for can be those that a filter takes.
    """

    filters: ClassVar[bool] = False

    @abstractmethod
    def scroll(
        self,
        limit: int,
        offset: PointId | None,
        wanted: Wanted,
        key: ShardKey | None = None,
        only: Only | None = None,
    ) -> Page:
        """Read up to ``limit`` points from the id ``offset`` on, or from the first one."""

    @abstractmethod
    def retrieve(
        self, ids: Sequence[PointId], wanted: Wanted, key: ShardKey | None = None
    ) -> VectorBatch:
        """Read those of ``ids`` that are there, in the order of ``ids``."""

    @abstractmethod
    def upsert(
        self, ids: Sequence[PointId], batch: VectorBatch, key: ShardKey | None = None
    ) -> None:
        """Write whole points, and return once they are written.

        Parameters
        ----------
        ids
            The batch's, as Qdrant is to store them.
        """

    @abstractmethod
    def update_vectors(
        self, ids: Sequence[PointId], batch: VectorBatch, key: ShardKey | None = None
    ) -> None:
        """Write the vector of points that are there; nothing else of them changes."""

    @abstractmethod
    def delete(self, ids: Sequence[PointId], key: ShardKey | None = None) -> None:
        """Delete points; ids that are not there are passed over."""

    def size(self, batch: VectorBatch) -> int:
        """Estimate the bytes of a request that writes a batch."""
        return batch.vectors.nbytes

    @abstractmethod
    def search(
        self, queries: Vectors, k: int, *, exact: bool = False, ef: int | None = None
    ) -> list[tuple[IdArray, list[ShardKey | None]]]:
        """Return the ids and shard keys of the ``k`` nearest points of each query, best first.

        Parameters
        ----------
        queries
            ``(n, d)`` float32.
        exact
            Compare with every point instead of asking the index.
        ef
            How many candidates an index keeps, ``k`` at least; default: what the collection sets.
        """

    @abstractmethod
    def count(self, key: ShardKey | None = None, only: Only | None = None) -> int:
        """Count the points exactly."""
