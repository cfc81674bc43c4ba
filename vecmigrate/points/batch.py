"""The one currency between sources, translators, sinks and reports: batches of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""``(n, d)`` float32, C-contiguous."""

PointId: TypeAlias = int | str
"""A non-negative 64-bit integer or a string (a UUID in Qdrant)."""

IdArray: TypeAlias = NDArray[Any]
"""``(n,)`` ids: dtype int64 if all are integers that fit, else dtype object of int and str."""

Payload: TypeAlias = Mapping[str, Any]
"""A point's JSON-like fields."""

Extra: TypeAlias = Mapping[str, Any]
"""What a store keeps of a point beside its vector and payload, JSON-like, in the store's words."""

_INT64_MAX = np.iinfo(np.int64).max


def id_array(ids: Iterable[PointId]) -> IdArray:
    """Return ids as an :data:`IdArray`: int64 if possible, else object."""
    if isinstance(ids, np.ndarray):
        if ids.dtype == np.int64 or ids.dtype == object:
            return ids
        ids = ids.tolist()
    listed = list(ids)
    if all(type(i) is int and -_INT64_MAX <= i <= _INT64_MAX for i in listed):
        return np.array(listed, dtype=np.int64)
    out = np.empty(len(listed), dtype=object)
    out[:] = listed
    return out


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Some points of a collection.

    Parameters
    ----------
    ids
        ``(n,)`` ids, see :data:`IdArray`.
    vectors
        ``(n, d)`` float32, C-contiguous. May be a read-only view of the store's memory.
    payloads
        ``n`` mappings, or None if the store holds none or none were asked for.
    cursor
        Where :meth:`Source.batches` continues after this batch; None from :meth:`Source.fetch`.
    extras
        ``n`` mappings that only a connector of the same store understands, as other vectors of a
        point, or None. A sink that does not know them leaves them out.
    counts
        ``(n,)`` numbers of vectors that each point has, in the order of the points: ``vectors``
        then is ``(sum(counts), d)``. None if each has one, as it does unless
        :meth:`Source.whole_batches` says otherwise.
    read_hashes
        ``(n, 2)`` int64 hashes of what the source held of each point, by which a later change is
        told; None from a source, see :func:`vecmigrate.points.checksums.source_hashes`.
    native
        ``(n,)`` mask of the points whose vector is the new encoder's own; None if nobody said.

    Raises
    ------
    ValueError
        If the parts differ in length, or vectors are not float32, 2-D and C-contiguous.
    """

    ids: IdArray
    vectors: Vectors
    payloads: Sequence[Payload] | None = None
    cursor: str | None = None
    extras: Sequence[Extra] | None = None
    counts: NDArray[np.intp] | None = None
    read_hashes: NDArray[np.int64] | None = None
    native: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        v = self.vectors
        if v.dtype != np.float32 or v.ndim != 2 or not v.flags.c_contiguous:
            raise ValueError(
                f"vectors must be 2-D float32 C-contiguous, not {v.ndim}-D {v.dtype} "
                f"(C-contiguous: {v.flags.c_contiguous})"
            )
        points = len(v) if self.counts is None else len(self.counts)
        if self.counts is not None and (self.counts.sum() != len(v) or (self.counts < 0).any()):
            raise ValueError(f"{len(v)} vectors with counts of {self.counts.sum()}")
        if self.ids.shape != (points,):
            raise ValueError(f"{points} points with ids of shape {self.ids.shape}")
        for name, parts in (("payloads", self.payloads), ("extras", self.extras)):
            if parts is not None and len(parts) != points:
                raise ValueError(f"{points} points with {len(parts)} {name}")

    def __len__(self) -> int:
        return len(self.ids)

    def with_vectors(self, vectors: Vectors) -> VectorBatch:
        """Return the same points with other vectors, as many of each point."""
        return replace(self, vectors=vectors)

    def with_payloads(self, payloads: Sequence[Payload] | None) -> VectorBatch:
        """Return the same points with other payloads."""
        return replace(self, payloads=payloads)

    def with_extras(self, extras: Sequence[Extra] | None) -> VectorBatch:
        """Return the same points with other extras."""
        return replace(self, extras=extras)

    def with_fields_alone(self, fields: Sequence[str]) -> VectorBatch:
        """Return the same points without extras, and with these fields of their payloads alone."""
        batch = replace(self, extras=None)
        if batch.payloads is None:
            return batch
        kept = [{f: payload[f] for f in fields if f in payload} for payload in batch.payloads]
        return batch.with_payloads(kept)

    def with_read_hashes(self, hashes: NDArray[np.int64]) -> VectorBatch:
        """Return the same points with hashes of what the source held of them."""
        return replace(self, read_hashes=hashes)

    def with_native(self, native: NDArray[np.bool_]) -> VectorBatch:
        """Return the same points, said which have the new encoder's own vector."""
        return replace(self, native=native)

    def each_count(self) -> list[int]:
        """Return how many vectors each point has."""
        return [1] * len(self) if self.counts is None else self.counts.tolist()

    def owners(self) -> NDArray[np.intp]:
        """Return the ``(len(vectors),)`` positions of the points that the vectors belong to."""
        positions = np.arange(len(self))
        return positions if self.counts is None else np.repeat(positions, self.counts)

    def one_row_each(self) -> VectorBatch:
        """Return the vectors as points of one each, without payloads; ids may come twice then."""
        return VectorBatch(self.ids[self.owners()], self.vectors, cursor=self.cursor)

    def with_one_vector(self) -> VectorBatch:
        """Return the points that have a vector, for who knows one a point alone.

        Raises
        ------
        ValueError
            If a point has several.
        """
        if self.counts is None:
            return self
        if (self.counts > 1).any():
            raise ValueError("points with several vectors each")
        return replace(self.take(self.counts == 1), counts=None)

    def each_payload(self) -> Sequence[Payload]:
        """Return one payload a point, empty ones if there are none."""
        return [{}] * len(self) if self.payloads is None else self.payloads

    def texts(self, field: str | None) -> list[str | None] | None:
        """Return each point's text, None for one that is missing or blank.

        None if there are no payloads, or ``field``, the one that holds the text, is not known.
        """
        if self.payloads is None or field is None:
            return None
        found = (payload.get(field) for payload in self.payloads)
        return [text if isinstance(text, str) and text.strip() else None for text in found]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> VectorBatch:
        """Return the points at ``rows`` (positions, or a mask), cursor kept."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if self.counts is None:
            counts, rows = None, positions
        else:
            counts = self.counts[positions]
            starts = np.cumsum(self.counts) - self.counts
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            rows = np.repeat(starts[positions], counts) + within
        return VectorBatch(
            self.ids[positions],
            np.ascontiguousarray(self.vectors[rows]),
            None if self.payloads is None else [self.payloads[int(i)] for i in positions],
            self.cursor,
            None if self.extras is None else [self.extras[int(i)] for i in positions],
            counts,
            None if self.read_hashes is None else self.read_hashes[positions],
            None if self.native is None else self.native[positions],
        )


def with_fields(payload: Payload, more: Payload) -> Payload:
    """Return a payload with more fields, or other values of them.

    One that a store reads when it is looked into may offer ``|``, as a dict does, and stay unread.
    """
    join = getattr(payload, "__or__", None)
    joined: Payload = {**payload, **more} if join is None else join(more)
    return joined


def join_batches(parts: Sequence[VectorBatch]) -> VectorBatch:
    """Return the points of one or more batches as one, without a cursor.

    Payloads or extras that one of the parts lacks are left out of all.
    """
    if len(parts) == 1:
        return replace(parts[0], cursor=None)
    payloads = extras = counts = None
    if all(part.payloads is not None for part in parts):
        payloads = [payload for part in parts for payload in part.payloads or ()]
    if all(part.extras is not None for part in parts):
        extras = [extra for part in parts for extra in part.extras or ()]
    if any(part.counts is not None for part in parts):
        counts = np.concatenate([np.array(part.each_count(), np.intp) for part in parts])
    ids = id_array([i for part in parts for i in part.ids.tolist()])
    vectors = np.concatenate([part.vectors for part in parts])
    return VectorBatch(ids, vectors, payloads, extras=extras, counts=counts)


UNIT_TOLERANCE = 2e-3
"""How far from 1 a unit vector's length may lie: storage in float16 moves it so far."""


def row_norms(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the ``(n,)`` Euclidean lengths of ``(n, d)`` vectors; not finite if a row is not.

    Summed in float32, or float64 if the vectors are.
    """
    dtype = np.result_type(vectors.dtype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=dtype)
        norms: NDArray[np.floating] = np.sqrt(squares)
    return norms


def normalize_rows(vectors: NDArray[np.floating]) -> None:
    """Scale each row of ``(n, d)`` vectors to unit length, in place; zero rows stay as they are."""
    norms = row_norms(vectors)
    norms[norms == 0] = 1
    vectors /= norms[:, None]


def are_unit_length(vectors: NDArray[np.floating], *, tolerance: float = UNIT_TOLERANCE) -> bool:
    """Tell whether the lengths of all rows are 1, no farther off than ``tolerance``."""
    return bool(np.all(np.abs(row_norms(vectors) - 1) <= tolerance))
