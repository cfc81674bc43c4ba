"""An index file as rows in storage order: FAISS ids and vectors, read from the mapped file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import SEEK_END
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import InputError, Metric, Vectors
from vecmigrate_faiss.faults import faiss_reason
from vecmigrate_faiss.kinds import KINDS, FaissIndex, IndexSettings
from vecmigrate_faiss.lookup import Int64s

_READABLE = "Flat, SQ and PQ can be read, plain or in IVF or HNSW, with or without IDMap or IDMap2"
_METRICS = {
    faiss.METRIC_INNER_PRODUCT: Metric.DOT,
    faiss.METRIC_L2: Metric.EUCLID,
    faiss.METRIC_L1: Metric.MANHATTAN,
}


class Rows(ABC):
    """The points of an index by row, 0 to ``count`` - 1."""

    def __init__(self, count: int, dimension: int) -> None:
        self.count = count
        self.dimension = dimension

    @abstractmethod
    def ids(self, start: int, stop: int) -> Int64s:
        """Return ``(stop - start,)`` int64 FAISS ids."""

    @abstractmethod
    def vectors(self, start: int, stop: int) -> Vectors:
        """Return ``(stop - start, d)`` float32, a read-only view of the index where it can be."""

    @abstractmethod
    def take(self, rows: Int64s) -> Vectors:
        """Return ``(m, d)`` float32, a copy."""

    def last_stored_id(self) -> int | None:
        """Return the id whose eight bytes end the file; None where it ends with something else."""
        return None


class FlatRows(Rows):
    """Vectors in a row, their ids being their positions."""

    def __init__(self, storage: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(storage.ntotal, storage.d)
        flat = _view(storage.get_xb, self.count * self.dimension, owner)
        self._vectors = flat.view(np.float32).reshape(self.count, self.dimension)

    def ids(self, start: int, stop: int) -> Int64s:
        return np.arange(start, stop, dtype=np.int64)

    def vectors(self, start: int, stop: int) -> Vectors:
        return _aligned(self._vectors[start:stop])

    def take(self, rows: Int64s) -> Vectors:
        return self._vectors[rows]


class IvfRows(Rows):
    """Vectors and ids in inverted lists, one list after the other."""

    def __init__(self, index: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(index.ntotal, index.d)
        self._owner = owner
        self._lists = faiss.downcast_InvertedLists(index.invlists)
        sizes = [self._lists.list_size(i) for i in range(index.nlist)]
        self._bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        if self._bounds[-1] != self.count:
            raise RuntimeError(f"{self.count} vectors, but {self._bounds[-1]} in its lists")

    def ids(self, start: int, stop: int) -> Int64s:
        parts = [self._list_ids(i)[first:last] for i, first, last in self._segments(start, stop)]
        return _joined(parts, np.empty(0, dtype=np.int64))

    def vectors(self, start: int, stop: int) -> Vectors:
        parts = [
            self._list_vectors(i, first, last) for i, first, last in self._segments(start, stop)
        ]
        return _joined(parts, np.empty((0, self.dimension), dtype=np.float32))

    def take(self, rows: Int64s) -> Vectors:
        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        if not len(rows):
            return out
        lists = np.searchsorted(self._bounds, rows, side="right") - 1
        by_list = np.argsort(lists, kind="stable")
        for wanted in np.split(by_list, np.flatnonzero(np.diff(lists[by_list])) + 1):
            number = int(lists[wanted[0]])
            out[wanted] = self._take_from(number, rows[wanted] - self._bounds[number])
        return out

    def last_stored_id(self) -> int | None:
        if not self.count or not isinstance(self._lists, faiss.ArrayInvertedLists):
            return None
        return int(self.ids(self.count - 1, self.count)[0])

    def _segments(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        first = int(np.searchsorted(self._bounds, start, side="right")) - 1
        last = int(np.searchsorted(self._bounds, stop, side="left"))
        segments = []
        for number in range(first, last):
            low, high = int(self._bounds[number]), int(self._bounds[number + 1])
            if low < high:
                segments.append((number, max(start, low) - low, min(stop, high) - low))
        return segments

    def _size(self, number: int) -> int:
        return int(self._bounds[number + 1] - self._bounds[number])

    def _list_ids(self, number: int) -> Int64s:
        ids = _view(partial(self._lists.get_ids, number), self._size(number), self._owner)
        return ids.view(np.int64)

    def _list_codes(self, number: int, code_size: int) -> NDArray[np.uint8]:
        size = self._size(number)
        read = partial(self._lists.get_codes, number)
        codes = _view(read, size * code_size, self._owner)
        return codes.view(np.uint8).reshape(size, code_size)

    def _list_vectors(self, number: int, first: int, last: int) -> Vectors:
        codes = self._list_codes(number, self.dimension * 4)
        return codes[first:last].view(np.float32)

    def _take_from(self, number: int, offsets: Int64s) -> Vectors:
        return self._list_vectors(number, 0, self._size(number))[offsets]


class IvfCodedRows(IvfRows):
    """Codes and ids in inverted lists, decoded a part of a list at a time."""

    def __init__(self, index: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(index, owner)
        self._index = index

    def _list_vectors(self, number: int, first: int, last: int) -> Vectors:
        return self._decoded(number, self._list_codes(number, self._index.code_size)[first:last])

    def _take_from(self, number: int, offsets: Int64s) -> Vectors:
        return self._decoded(number, self._list_codes(number, self._index.code_size)[offsets])

    def _decoded(self, number: int, codes: NDArray[np.uint8]) -> Vectors:
        # A whole code is the list's number, little endian, before the code within the list.
        width = self._index.sa_code_size() - self._index.code_size
        whole = np.empty((len(codes), width + self._index.code_size), dtype=np.uint8)
        whole[:, :width] = np.frombuffer(number.to_bytes(width, "little"), dtype=np.uint8)
        whole[:, width:] = codes
        vectors: Vectors = self._index.sa_decode(whole)
        return vectors


class CodedRows(Rows):
    """Codes in a row, decoded as they are read, their ids being their positions."""

    def __init__(self, storage: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(storage.ntotal, storage.d)
        self._storage, self._owner = storage, owner

    def ids(self, start: int, stop: int) -> Int64s:
        return np.arange(start, stop, dtype=np.int64)

    def vectors(self, start: int, stop: int) -> Vectors:
        vectors: Vectors = self._storage.reconstruct_n(start, stop - start)
        return vectors

    def take(self, rows: Int64s) -> Vectors:
        vectors: Vectors = self._storage.reconstruct_batch(rows)
        return vectors


class MappedRows(Rows):
    """Rows of another index under the ids of an IDMap."""

    def __init__(self, inner: Rows, index: FaissIndex) -> None:
        super().__init__(inner.count, inner.dimension)
        if index.id_map.size() != inner.count:
            raise RuntimeError(f"{inner.count} vectors, but {index.id_map.size()} ids")
        self._inner = inner
        self._id_map: Int64s = _view(index.id_map.data, inner.count, index).view(np.int64)

    def ids(self, start: int, stop: int) -> Int64s:
        if isinstance(self._inner, FlatRows | CodedRows):
            return _aligned(self._id_map[start:stop])
        positions = self._inner.ids(start, stop)
        if len(positions) and not 0 <= positions.min() <= positions.max() < self.count:
            raise RuntimeError("its lists hold ids that its IDMap does not have")
        return self._id_map[positions]

    def vectors(self, start: int, stop: int) -> Vectors:
        return self._inner.vectors(start, stop)

    def take(self, rows: Int64s) -> Vectors:
        return self._inner.take(rows)

    def last_stored_id(self) -> int | None:
        return int(self._id_map[-1]) if self.count else None


@dataclass(frozen=True, slots=True)
class Layout:
    """An opened index file."""

    rows: Rows
    settings: IndexSettings
    metric: Metric
    notes: tuple[str, ...]


def open_layout(path: Path) -> Layout:
    """Open an index file without loading its vectors.

    Raises
    ------
    InputError
        Where it is not there, not a whole FAISS index, or of a kind or metric that cannot be read.
    """
    index = read_index(path)
    with reading(path):
        return _walk(path, index)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what FAISS says of a damaged file into an :class:`InputError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"{path} cannot be read as a FAISS index: {faiss_reason(error)}",
            remedy="Check that faiss.write_index wrote it and that it was copied whole.",
        ) from error


def read_index(path: Path) -> FaissIndex:
    """Read an index file, memory-mapped; raises as :func:`open_layout`."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", remedy="Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", remedy="Name a FAISS index file."
        ) from error
    if magic.startswith(b"IB"):
        raise InputError(f"{path} is a binary FAISS index", remedy=f"{_READABLE}.")
    with reading(path):
        if len(magic) < 4:
            raise RuntimeError("it is empty" if not magic else "it is too short")
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)


def _walk(path: Path, index: FaissIndex) -> Layout:
    name = type(index).__name__
    id_map = {"IndexIDMap": "IDMap", "IndexIDMap2": "IDMap2"}.get(name)
    inner = faiss.downcast_index(index.index) if id_map else index
    kind = KINDS.get(type(inner).__name__)
    if kind is None:
        raise InputError(
            f"{path} is of the FAISS type {type(inner).__name__}, which is not supported",
            remedy=f"{_READABLE}.",
        )
    metric = _METRICS.get(index.metric_type)
    if metric is None:
        raise InputError(
            f"{path} has the FAISS metric {_metric_name(index.metric_type)}",
            remedy="L2, inner product and L1 can be read.",
        )
    if (inner.d, inner.ntotal) != (index.d, index.ntotal):
        raise RuntimeError("its parts differ in dimension or count")
    own = _rows(path, inner, index)
    rows = MappedRows(own, index) if id_map else own
    _check_end(path, rows)
    settings = IndexSettings.model_validate({"index": kind.of(inner), "id_map": id_map})
    notes = _notes(inner)
    if settings.index.lossy:
        notes += (f"{settings.index.words} is lossy: its vectors are decoded from codes",)
    return Layout(rows, settings, metric, notes)


def _rows(path: Path, index: FaissIndex, owner: FaissIndex) -> Rows:
    if isinstance(index, faiss.IndexIVFFlat):
        return IvfRows(index, owner)
    if isinstance(index, faiss.IndexIVF):
        return IvfCodedRows(index, owner)
    storage = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if isinstance(storage, faiss.IndexFlat):
        return FlatRows(storage, owner)
    if isinstance(storage, faiss.IndexScalarQuantizer | faiss.IndexPQ):
        return CodedRows(storage, owner)
    raise InputError(
        f"{path} is an HNSW index over {type(storage).__name__}", remedy=f"{_READABLE}."
    )


def _check_end(path: Path, rows: Rows) -> None:
    """Refuse a file that ends within its last id, which FAISS would complete with zeros."""
    last_id = rows.last_stored_id()
    if last_id is None:
        return
    with path.open("rb") as file:
        file.seek(-8, SEEK_END)
        if int.from_bytes(file.read(), "little", signed=True) != last_id:
            raise RuntimeError("it does not end with its last id")


def _notes(index: FaissIndex) -> tuple[str, ...]:
    if not isinstance(index, faiss.IndexIVF):
        return ()
    quantizer = faiss.downcast_index(index.quantizer)
    if isinstance(quantizer, faiss.IndexFlat | faiss.IndexHNSWFlat):
        return ()
    return (
        f"its coarse quantizer {type(quantizer).__name__} becomes a Flat one in a copy, "
        "the list count being kept",
    )


def _metric_name(metric: int) -> str:
    names = (n for n in dir(faiss) if n.startswith("METRIC_") and getattr(faiss, n) == metric)
    return next(names, str(metric))


class _Held:
    """Memory of an index, with the index that it lives in."""

    def __init__(self, memory: NDArray[Any], owner: FaissIndex) -> None:
        self.__array_interface__ = {
            **memory.__array_interface__,
            "data": (memory.ctypes.data, True),
        }
        self.owner = owner


def _view(pointer: Callable[[], Any], count: int, owner: FaissIndex) -> NDArray[Any]:
    """Return a read-only array of ``count`` elements that keeps the index alive."""
    if not count:
        return np.empty(0, dtype=np.int64)
    return np.asarray(_Held(faiss.rev_swig_ptr(pointer(), count), owner))


def _aligned(part: NDArray[Any]) -> NDArray[Any]:
    """Return ``part``, or a copy where the file's header put it off a four-byte boundary.

    NumPy would make that copy in every operation, and other libraries do not look.
    """
    return np.require(part, requirements=["C", "A"])


def _joined(parts: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    if len(parts) == 1:
        return _aligned(parts[0])
    return np.concatenate(parts) if parts else empty
