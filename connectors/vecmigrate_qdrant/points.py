"""The face of whatever holds the points of a collection, a request at a time."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from qdrant_client import models

from vecmigrate.connector import (
    Extra,
    PointId,
    UsageError,
    VectorBatch,
    VectorNotFoundError,
    Vectors,
)

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

    def selector(self, wanted: Wanted) -> bool | list[str]:
        """Return what asks a request for the vectors wanted."""
        if not wanted.vectors or wanted.extras:
            return wanted.vectors
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


Found: TypeAlias = tuple[VectorBatch, list[ShardKey | None]]
"""The points that a query finds, without a cursor, and the shard key of each."""


class Points(ABC):
    """Reads and writes points; each call is one request.

    Ids are those that Qdrant has, unique within a shard key.

    Every method raises :class:`InputError` or :class:`WriteError` if Qdrant refuses the request
    (which of the two was said when Qdrant was opened), and :class:`UnreachableError` if a server
    does not answer.

    Attributes
    ----------
    filters
        True if the points asked for can be those that a filter takes.
    hash_form
        See :attr:`vecmigrate.connector.Source.hash_form`.
    key
        The shard key whose points these are; None for all points.
    """

    filters: ClassVar[bool] = False
    hash_form: ClassVar[str] = ""
    key: ShardKey | None = None

    def under(self, key: ShardKey | None) -> Self:
        """Return the points under a shard key of a collection with custom sharding."""
        if key == self.key:
            return self
        points = copy(self)
        points.key = key
        return points

    @abstractmethod
    def scroll(
        self, limit: int, offset: PointId | None, wanted: Wanted, only: Only | None = None
    ) -> Page:
        """Read up to ``limit`` points from the id ``offset`` on, or from the first one."""

    def last_value(self, field: str) -> Any:
        """Return a payload field's value of the point that has the greatest one.

        Only if :attr:`filters` is True, and the field has an index of ranges.
        """
        raise NotImplementedError

    @abstractmethod
    def retrieve(self, ids: Sequence[PointId], wanted: Wanted) -> VectorBatch:
        """Read those of ``ids`` that are there, in the order of ``ids``."""

    @abstractmethod
    def upsert(
        self, ids: Sequence[PointId], batch: VectorBatch, *, insert_only: bool = False
    ) -> None:
        """Write whole points, and return once they are written.

        Parameters
        ----------
        ids
            The batch's, as Qdrant is to store them.
        insert_only
            Leave points as they are that are there.
        """

    @abstractmethod
    def update_vectors(self, ids: Sequence[PointId], batch: VectorBatch) -> None:
        """Write the vector of points that are there; nothing else of them changes."""

    @abstractmethod
    def delete(self, ids: Sequence[PointId]) -> None:
        """Delete points; ids that are not there are passed over."""

    def size(self, batch: VectorBatch) -> int:
        """Estimate the bytes of a request that writes a batch."""
        return batch.vectors.nbytes

    @abstractmethod
    def search(
        self,
        queries: Vectors,
        k: int,
        wanted: Wanted,
        *,
        matching: models.Filter | None = None,
        exact: bool = False,
        ef: int | None = None,
    ) -> list[Found]:
        """Return the ``k`` nearest points of each query, best first.

        Parameters
        ----------
        queries
            ``(n, d)`` float32.
        matching
            A filter that points are to pass.
        exact
            Compare with every point instead of asking the index.
        ef
            How many candidates an index keeps, ``k`` at least; default: what the collection sets.
        """

    @abstractmethod
    def count(self, only: Only | None = None) -> int:
        """Count the points exactly."""


UNNAMED = ""
"""Qdrant's own name for the one vector of a collection without named vectors."""


def plain_id(point_id: object) -> PointId:
    """Return an id of qdrant-client's models as an integer or a string."""
    return point_id if isinstance(point_id, int) else str(point_id)


def dense_params(params: models.CollectionParams) -> dict[str, models.VectorParams]:
    """Return the parameters of a collection's dense vectors and multivectors by name."""
    if isinstance(params.vectors, models.VectorParams):
        return {UNNAMED: params.vectors}
    return dict(params.vectors or {})


def choose_vector(params: models.CollectionParams, wanted: str | None, where: str) -> str:
    """Return the name of the vector to move: ``wanted``, or the only dense one.

    A multivector is one that is named, or the only vector there is. A vector without a name may
    have others beside it, which were added later.

    Raises
    ------
    UsageError
        If there is none.
    VectorNotFoundError
        If there is more than one to choose from, or ``wanted`` is not there or sparse.
    """
    everything = dense_params(params)
    dense = [name for name, p in everything.items() if p.multivector_config is None]
    listed = ", ".join(map(repr, everything)) or "none"
    if wanted is None and UNNAMED in everything:
        return UNNAMED  # As a reader gets it who names none.
    if wanted is None:
        choices = dense or list(everything)
        if len(choices) == 1:
            return choices[0]
        if not choices:
            raise UsageError(
                f"{where} has no dense vector",
                remedy="Sparse vectors cannot be translated; choose another collection.",
            )
        kind = "dense vectors" if dense else "multivectors"
        raise VectorNotFoundError(
            f"{where} has several {kind}: {', '.join(map(repr, choices))}",
            remedy="Name one by ?vector=NAME.",
        )
    if wanted in everything:
        return wanted
    kind = "is a sparse vector" if wanted in (params.sparse_vectors or {}) else "is not there"
    raise VectorNotFoundError(
        f"the vector {wanted!r} of {where} {kind}",
        remedy=f"Name a dense one by ?vector=NAME; there are: {listed}.",
    )


def other_vectors(params: models.CollectionParams, chosen: str) -> list[str]:
    """Return the names of all vectors but the chosen one."""
    return [n for n in [*dense_params(params), *(params.sparse_vectors or {})] if n != chosen]


VECTORS = "vectors"
"""The key of an extra under which a point's other vectors are."""


def read_extras(
    records: Sequence[models.Record | models.ScoredPoint], others: Collection[str]
) -> list[Extra]:
    """Return the extras of points that were read with all their vectors: the ``others``."""
    named = (record.vector if isinstance(record.vector, dict) else {} for record in records)
    return [extra_of({n: v for n, v in vectors.items() if n in others}) for vectors in named]


def extra_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra of a point with these other vectors, as qdrant-client gives them."""
    vectors = {name: _plain(vector) for name, vector in named.items()}
    return {VECTORS: vectors} if vectors else {}


def _plain(vector: Any) -> Any:
    """Return a vector as JSON, its numbers as float32: REST gives fewer digits than gRPC."""
    if isinstance(vector, models.SparseVector):
        return {"indices": list(vector.indices), "values": _plain(vector.values)}
    return np.array(vector, np.float32).tolist()


def vectors_of(extra: Extra) -> dict[str, Any]:
    """Return a point's other vectors, as an upsert takes them."""
    return {
        name: models.SparseVector(**vector) if isinstance(vector, dict) else vector
        for name, vector in extra.get(VECTORS, {}).items()
    }


def count_numbers(extra: Extra) -> int:
    """Return how many numbers all vectors of an extra have."""
    vectors = extra.get(VECTORS, {}).values()
    return sum(2 * len(v["values"]) if isinstance(v, dict) else np.size(v) for v in vectors)


def fitting_extras(extras: Sequence[Extra], known: Collection[str]) -> tuple[list[Extra], set[str]]:
    """Return the extras that a collection has a place for, and the names of other vectors.

    One that an earlier version wrote has the chosen vector alone.
    """
    unknown = {name for extra in extras for name in extra.get(VECTORS, ())} - set(known)
    if not unknown:
        return list(extras), unknown
    return [
        {VECTORS: {n: v for n, v in extra.get(VECTORS, {}).items() if n in known}}
        for extra in extras
    ], unknown


LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**64 - 1
_MANY_DIGITS = re.compile(r"\d{19}")


def check_json(payloads: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that payloads arrive as they are in a request's JSON.

    A server takes NaN for null, an integer beyond 64 bits for a float, and a lone surrogate in a
    name for question marks, without a word.

    Raises
    ------
    ValueError
        If one would not; the client refuses by itself what is no JSON at all.
    """
    text = json.dumps(list(map(dict, payloads)), allow_nan=False, ensure_ascii=False, default=str)
    text.encode()
    if _MANY_DIGITS.search(text) and any(map(has_large_integer, payloads)):
        raise ValueError("an integer beyond 64 bits")


def has_large_integer(value: Any) -> bool:
    """Tell whether an integer beyond 64 bits is in a value."""
    if type(value) is int:
        return not LEAST_INTEGER <= value <= MOST_INTEGER
    if isinstance(value, Mapping):
        return any(map(has_large_integer, value.values()))
    return isinstance(value, list | tuple) and any(map(has_large_integer, value))
