"""Builds an index file from staged vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import Metric, Vectors, WriteError, told_as
from vecmigrate_faiss.index.base import FAILURES, FaissIndex, IndexKind, faiss_reason
from vecmigrate_faiss.index.coded_rows import TransformedRows, rows_of
from vecmigrate_faiss.index.kinds import IndexSettings, parts_of
from vecmigrate_faiss.index.plain_kinds import FlatKind
from vecmigrate_faiss.index.read import read_index
from vecmigrate_faiss.index.rows import MappedRows
from vecmigrate_faiss.index.wrapping_kinds import PreTransformKind
from vecmigrate_faiss.lookup import Int64s

_CHUNK_BYTES = 1 << 26
_ID_ROWS = 1 << 20
_SEED = 0
_WRAPPERS = {"IDMap": faiss.IndexIDMap, "IDMap2": faiss.IndexIDMap2}


@dataclass(frozen=True, slots=True)
class Points:
    """Vectors and FAISS ids to build from.

    Parameters
    ----------
    vectors
        ``(n, d)`` float32, mapped.
    ids
        ``(n,)`` int64; None for the positions among the rows kept.
    kept
        ``(n,)`` mask of rows; None for all.
    """

    vectors: Vectors
    ids: Int64s | None
    kept: NDArray[np.bool_] | None

    @property
    def count(self) -> int:
        """How many rows are kept."""
        return len(self.vectors) if self.kept is None else int(np.count_nonzero(self.kept))

    def chunks(self, *, at_once: bool = False) -> Iterator[tuple[Vectors, Int64s]]:
        """Yield vectors and ids in order, some megabytes or all at a time."""
        size = max(1, _CHUNK_BYTES // (4 * self.vectors.shape[1]))
        if at_once:
            size = max(1, len(self.vectors))
        done = 0
        for start in range(0, len(self.vectors), size):
            rows = slice(start, start + size)
            keep = slice(None) if self.kept is None else self.kept[rows]
            vectors = np.ascontiguousarray(self.vectors[rows][keep])
            if self.ids is None:
                ids = np.arange(done, done + len(vectors), dtype=np.int64)
            else:
                ids = np.ascontiguousarray(self.ids[rows][keep])
            done += len(vectors)
            yield vectors, ids

    def id_chunks(self) -> Iterator[Int64s]:
        """Yield the ids alone, in order, if all rows are kept."""
        for start in range(0, self.count, _ID_ROWS):
            stop = min(start + _ID_ROWS, self.count)
            if self.ids is None:
                yield np.arange(start, stop, dtype=np.int64)
            else:
                yield np.ascontiguousarray(self.ids[start:stop])

    def sample(self, size: int) -> Vectors:
        """Draw rows uniformly, always the same ones; all of them if there are fewer."""
        rows = np.arange(len(self.vectors)) if self.kept is None else np.flatnonzero(self.kept)
        if size < len(rows):
            rows = np.sort(np.random.default_rng(_SEED).choice(rows, size, replace=False))
        return np.ascontiguousarray(self.vectors[rows])

    def are_numbered(self) -> bool:
        """True if the ids are 0, 1, 2 and so on in order."""
        if self.ids is None:
            return True
        ids = self.ids if self.kept is None else self.ids[self.kept]
        return np.array_equal(ids, np.arange(len(ids)))


def build_index(
    path: Path,
    points: Points,
    settings: IndexSettings,
    metric: Metric,
    carried: Carried | None = None,
) -> tuple[str, ...]:
    """Write an index with these settings, as far as the points allow, to ``path``.

    Returns notes on where they did not. The vectors of a Flat index pass through; any other kind
    is built in memory.

    Parameters
    ----------
    carried
        The index that this one replaces, with the same settings: its training is used again.

    Raises
    ------
    OSError, WriteError
        If the file cannot be written, or FAISS cannot build the index.
    """
    if isinstance(settings.index, FlatKind) or (carried and not carried.is_trained()):
        carried = None
    kind: IndexKind = settings.index
    notes: list[str] = []
    if carried is None:
        kind, notes = _possible(settings.index, points)
    id_map = settings.id_map
    if id_map is None and not kind.keeps_ids and not points.are_numbered():
        id_map = "IDMap2"
        notes.append("IDMap2 added: the ids are not 0, 1, 2 and so on")
    remedy = "Nothing was published; free disk space or memory and run again."
    with told_as(WriteError, f"FAISS cannot build {kind.words}", remedy, FAILURES, faiss_reason):
        _build(path, points, kind, id_map, metric, carried)
    return tuple(notes)


def empty_flat(settings: IndexSettings, dimension: int, metric: Metric) -> FaissIndex | None:
    """Return the empty index if it is Flat, whose file can be written as vectors come."""
    if not isinstance(settings.index, FlatKind):
        return None
    index = settings.index.make(dimension, metric)
    return _WRAPPERS[settings.id_map](index) if settings.id_map else index


def _possible(wanted: IndexKind, points: Points) -> tuple[IndexKind, list[str]]:
    """Return the kind that there can be of these points, and notes on where it differs."""
    dimension = points.vectors.shape[1]
    scaled = wanted.scaled(dimension)
    notes = []
    if scaled.words != wanted.words:
        notes.append(
            f"{scaled.words} in place of the source's {wanted.words}: "
            f"there are {dimension} dimensions"
        )
    kind = scaled.fitted(points.count)
    if kind != scaled:
        notes.append(
            f"{kind.words} in place of the source's {scaled.words}: "
            f"there are {points.count} vectors"
        )
    return kind, notes


def _build(
    path: Path,
    points: Points,
    kind: IndexKind,
    id_map: str | None,
    metric: Metric,
    carried: Carried | None,
) -> None:
    index = carried.emptied() if carried else kind.make(points.vectors.shape[1], metric)
    is_wrapped = isinstance(index, faiss.IndexIDMap)
    wrapped = _WRAPPERS[id_map](index) if id_map and not is_wrapped else index
    if isinstance(kind, FlatKind):
        write_flat(path, wrapped, points.count, points.chunks())
        return
    if not carried and kind.training_rows and points.count:
        _let_train_on_few(index)
        index.train(points.sample(kind.training_rows))
    for vectors, ids in points.chunks(at_once=kind.adds_at_once):
        if carried:
            carried.add(wrapped, kind, vectors, ids)
        elif id_map or kind.keeps_ids:
            wrapped.add_with_ids(vectors, ids)
        else:
            wrapped.add(vectors)
    if carried:
        carried.name(wrapped)
    kind.complete(faiss.downcast_index(wrapped.index) if is_wrapped else index)
    faiss.write_index(wrapped, str(path))


def _let_train_on_few(index: FaissIndex) -> None:
    """Keep FAISS from writing to the terminal that there are fewer vectors than it would like."""
    for part in parts_of(index):
        for trained in (part, *(getattr(part, name, None) for name in ("pq", "rq"))):
            if hasattr(trained, "cp"):
                trained.cp.min_points_per_centroid = 1


_COUNT_AT = 8  # after a magic of four bytes and the dimension, in every FAISS index
_LENGTH = 8


def write_flat(
    path: Path, empty: FaissIndex, count: int, chunks: Iterable[tuple[Vectors, Int64s]]
) -> None:
    """Write ``count`` vectors as the Flat index ``empty``, which an IDMap may wrap.

    Parameters
    ----------
    chunks
        Vectors ``(m, d)`` float32 with their ids ``(m,)`` int64, which only an IDMap takes.
    """
    ids: list[Int64s] = []
    with path.open("wb") as file:
        file.write(flat_head(empty, count))
        for vectors, numbers in chunks:
            file.write(vectors.data)
            ids.append(numbers)
        file.writelines(flat_tail(empty, count, ids))


def flat_head(empty: FaissIndex, count: int) -> bytes:
    """Return what such a file holds before its vectors, of the same length whatever the count."""
    wrapped = isinstance(empty, faiss.IndexIDMap)
    inner = faiss.downcast_index(empty.index) if wrapped else empty
    flat = faiss.serialize_index(inner).tobytes()
    head = b""
    if wrapped:
        whole = faiss.serialize_index(empty).tobytes()
        head = _with_count(whole[: -len(flat) - _LENGTH], count)
    return head + _with_count(flat[:-_LENGTH], count) + np.int64(count * empty.d).tobytes()


def flat_tail(empty: FaissIndex, count: int, ids: Iterable[Int64s]) -> Iterator[bytes]:
    """Yield what such a file holds after its vectors: the ids of an IDMap."""
    if isinstance(empty, faiss.IndexIDMap):
        yield np.int64(count).tobytes()
        for numbers in ids:
            yield numbers.tobytes()


def _with_count(header: bytes, count: int) -> bytes:
    return header[:_COUNT_AT] + np.int64(count).tobytes() + header[_COUNT_AT + _LENGTH :]


def can_carry(kind: IndexKind) -> bool:
    """Tell whether points of such an index can stay exactly as they are when others change."""
    inner = kind.index if isinstance(kind, PreTransformKind) else kind
    return inner.copies_codes or inner.encodes_again_alike


class Carried:
    """An index in training and codes, for one that replaces it.

    Encoding a vector that was decoded may give another code, or put it into another list: if
    codes can be copied, they are.

    Parameters
    ----------
    path
        The index file.
    origins
        ``(n,)`` int64: for each point of the new index its row in the old one, -1 if it has a
        new vector.
    """

    def __init__(self, path: Path, origins: Int64s) -> None:
        self._path = path
        self._origins = origins
        rows = rows_of(read_index(path))
        self._rows = rows.inner if isinstance(rows, MappedRows) else rows
        self._done = 0
        self._names: list[Int64s] = []

    def is_trained(self) -> bool:
        """True if there is a training to take over."""
        return bool(self._rows.count)

    def emptied(self) -> FaissIndex:
        """Return the index without its points, in its IDMap if it has one; its training is left."""
        index = faiss.read_index(str(self._path))
        index.reset()
        inner = index
        while hasattr(inner, "index"):
            inner = faiss.downcast_index(inner.index)
        if isinstance(inner, faiss.IndexNSGPQ):
            # FAISS makes it in training and leaves it out of the file.
            faiss.downcast_index(inner.storage).pq.compute_sdc_table()
        return index

    def add(self, wrapped: FaissIndex, kind: IndexKind, vectors: Vectors, ids: Int64s) -> None:
        """Add the next points to :meth:`emptied`, or to an IDMap around it.

        Parameters
        ----------
        vectors
            ``(n, d)``; they count for points that are new.
        """
        origins = self._origins[self._done : self._done + len(vectors)]
        self._done += len(vectors)
        stays = origins >= 0
        kept = origins[stays]
        if len(kept):
            first, stop = int(kept.min()), int(kept.max()) + 1
            # Not for rows here and there, which would have the whole file read for each batch.
            if stop - first < 2 * len(kept):
                self._rows.soon(first, stop)
        mapped = isinstance(wrapped, faiss.IndexIDMap)
        index = target = faiss.downcast_index(wrapped.index) if mapped else wrapped
        rows = self._rows
        if isinstance(rows, TransformedRows) and isinstance(kind, PreTransformKind):
            vectors = np.ascontiguousarray(rows.forward(vectors))
            rows, kind, target = rows.inner, kind.index, faiss.downcast_index(index.index)
            vectors[stays] = rows.take(kept)
        own_ids = np.arange(index.ntotal, index.ntotal + len(ids)) if mapped else ids
        if kind.copies_codes:
            codes = target.sa_encode(vectors)
            codes[stays] = rows.codes(kept)
            target.add_sa_codes(codes, own_ids)
        elif kind.keeps_ids:
            target.add_with_ids(vectors, own_ids)
        else:
            target.add(vectors)
        index.ntotal = wrapped.ntotal = target.ntotal
        if mapped:
            self._names.append(ids)

    def name(self, wrapped: FaissIndex) -> None:
        """Give an IDMap the ids of all that was added under it."""
        if isinstance(wrapped, faiss.IndexIDMap):
            names = np.concatenate([np.empty(0, np.int64), *self._names])
            faiss.copy_array_to_vector(names, wrapped.id_map)
