"""An index as rows in storage order: FAISS ids and vectors, read from the mapped file."""

from __future__ import annotations

import ctypes
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import MappedFile, Vectors
from vecmigrate_faiss.index.base import FaissIndex
from vecmigrate_faiss.lookup import Int64s

Codes = NDArray[np.uint8]


class Rows(ABC):
    """The points of an index by row, 0 to ``count`` - 1."""

    numbered: bool = False
    """True if ids are the row numbers."""
    file: MappedFile | None = None
    """The file that they are mapped from."""

    def __init__(self, count: int, dimension: int) -> None:
        self.count = count
        self.dimension = dimension

    def read_from(self, file: MappedFile) -> None:
        """Take note of the file, whose parts are then read and not looked at where it is mapped."""
        self.file = file

    def _read(self, part: NDArray[Any]) -> NDArray[Any]:
        return part if self.file is None else self.file.copied(part)

    def ids(self, start: int, stop: int) -> Int64s:
        """Return ``(stop - start,)`` int64 FAISS ids, by default the row numbers."""
        return np.arange(start, stop, dtype=np.int64)

    @abstractmethod
    def vectors(self, start: int, stop: int) -> Vectors:
        """Return ``(stop - start, d)`` float32, perhaps a read-only view of the index."""

    @abstractmethod
    def soon(self, start: int, stop: int) -> None:
        """Have the system read these rows' part of the file, since their vectors come next."""

    @abstractmethod
    def take(self, rows: Int64s) -> Vectors:
        """Return ``(m, d)`` float32, a copy."""

    def stored(self, vectors: Vectors) -> Vectors:
        """Return ``(n, d)`` vectors as they would come back from this index."""
        return vectors

    def codes(self, rows: Int64s) -> Codes:
        """Return ``(m, code size)`` uint8 that ``add_sa_codes`` of a like index takes.

        Raises
        ------
        NotImplementedError
            If ``copies_codes`` of the kind says no.
        """
        raise NotImplementedError

    def last_stored_id(self) -> int | None:
        """Return the id whose eight bytes end the file; None if it ends with something else."""
        return None


class FlatRows(Rows):
    """Vectors in a row, their ids being their positions."""

    numbered = True

    def __init__(self, storage: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(storage.ntotal, storage.d)
        flat = view(storage.get_xb, self.count * self.dimension, owner)
        self._vectors = flat.view(np.float32).reshape(self.count, self.dimension)

    def vectors(self, start: int, stop: int) -> Vectors:
        return aligned(self._read(self._vectors[start:stop]))

    def soon(self, start: int, stop: int) -> None:
        will_need(self._vectors[start:stop])

    def take(self, rows: Int64s) -> Vectors:
        return self._vectors[rows]

    def codes(self, rows: Int64s) -> Codes:
        return self._vectors[rows].view(np.uint8)


class IvfRows(Rows):
    """Vectors and ids in inverted lists, one list after the other."""

    def __init__(self, index: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(index.ntotal, index.d)
        self._index, self._owner = index, owner
        self._lists = faiss.downcast_InvertedLists(index.invlists)
        sizes = [self._lists.list_size(i) for i in range(index.nlist)]
        self._bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        if self._bounds[-1] != self.count:
            raise RuntimeError(f"{self.count} vectors, but {self._bounds[-1]} in its lists")

    def ids(self, start: int, stop: int) -> Int64s:
        parts = [
            self._read(self._list_ids(i)[first:last])
            for i, first, last in self._segments(start, stop)
        ]
        return joined(parts, np.empty(0, dtype=np.int64))

    def vectors(self, start: int, stop: int) -> Vectors:
        parts = [
            self._decoded(i, self._read(self._list_codes(i)[first:last]))
            for i, first, last in self._segments(start, stop)
        ]
        return joined(parts, np.empty((0, self.dimension), dtype=np.float32))

    def soon(self, start: int, stop: int) -> None:
        for number, first, last in self._segments(start, stop):
            will_need(self._stored_codes(number)[first:last])
            will_need(self._list_ids(number)[first:last])

    def take(self, rows: Int64s) -> Vectors:
        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        for number, wanted, offsets in self._by_list(rows):
            out[wanted] = self._decoded(number, self._list_codes(number)[offsets])
        return out

    def codes(self, rows: Int64s) -> Codes:
        out = np.empty((len(rows), self._index.sa_code_size()), dtype=np.uint8)
        for number, wanted, offsets in self._by_list(rows):
            out[wanted] = self._whole(number, self._list_codes(number)[offsets])
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

    def _by_list(self, rows: Int64s) -> Iterator[tuple[int, NDArray[np.intp], Int64s]]:
        """Yield each list's number, which of ``rows`` are in it, and where in it they are."""
        if not len(rows):
            return
        lists = np.searchsorted(self._bounds, rows, side="right") - 1
        by_list = np.argsort(lists, kind="stable")
        for wanted in np.split(by_list, np.flatnonzero(np.diff(lists[by_list])) + 1):
            number = int(lists[wanted[0]])
            yield number, wanted, rows[wanted] - self._bounds[number]

    def _size(self, number: int) -> int:
        return int(self._bounds[number + 1] - self._bounds[number])

    def _list_ids(self, number: int) -> Int64s:
        ids = view(partial(self._lists.get_ids, number), self._size(number), self._owner)
        return ids.view(np.int64)

    def _stored_codes(self, number: int) -> Codes:
        """Return the list's part of the file, ``(size, code size)``, which may be packed."""
        size, width = self._size(number), self._index.code_size
        codes = view(partial(self._lists.get_codes, number), size * width, self._owner)
        return codes.view(np.uint8).reshape(size, width)

    def _list_codes(self, number: int) -> Codes:
        return self._stored_codes(number)

    def _decoded(self, number: int, codes: Codes) -> Vectors:
        return codes.view(np.float32)

    def _whole(self, number: int, codes: Codes) -> Codes:
        """Put the list's number, little endian, before each code within the list."""
        width = self._index.sa_code_size() - self._index.code_size
        whole = np.empty((len(codes), width + self._index.code_size), dtype=np.uint8)
        whole[:, :width] = np.frombuffer(number.to_bytes(width, "little"), dtype=np.uint8)
        whole[:, width:] = codes
        return whole


class MappedRows(Rows):
    """Rows of another index under the ids of an IDMap."""

    def __init__(self, inner: Rows, index: FaissIndex) -> None:
        super().__init__(inner.count, inner.dimension)
        if index.id_map.size() != inner.count:
            raise RuntimeError(f"{inner.count} vectors, but {index.id_map.size()} ids")
        self.inner = inner
        self._id_map: Int64s = view(index.id_map.data, inner.count, index).view(np.int64)

    def read_from(self, file: MappedFile) -> None:
        super().read_from(file)
        self.inner.read_from(file)

    def ids(self, start: int, stop: int) -> Int64s:
        if self.inner.numbered:
            return aligned(self._read(self._id_map[start:stop]))
        positions = self.inner.ids(start, stop)
        if len(positions) and not 0 <= positions.min() <= positions.max() < self.count:
            raise RuntimeError("its lists hold ids that its IDMap does not have")
        return self._id_map[positions]

    def vectors(self, start: int, stop: int) -> Vectors:
        return self.inner.vectors(start, stop)

    def soon(self, start: int, stop: int) -> None:
        self.inner.soon(start, stop)
        if self.inner.numbered:
            will_need(self._id_map[start:stop])

    def take(self, rows: Int64s) -> Vectors:
        return self.inner.take(rows)

    def stored(self, vectors: Vectors) -> Vectors:
        return self.inner.stored(vectors)

    def last_stored_id(self) -> int | None:
        return int(self._id_map[-1]) if self.count else None


_PAGE = mmap.PAGESIZE
_WILL_NEED = getattr(mmap, "MADV_WILLNEED", None)
_advise = None if _WILL_NEED is None else ctypes.CDLL(None).madvise


class _Held:
    """Memory of an index, with the index that it lives in."""

    def __init__(self, memory: NDArray[Any], owner: FaissIndex) -> None:
        self.__array_interface__ = {
            **memory.__array_interface__,
            "data": (memory.ctypes.data, True),
        }
        self.owner = owner


def view(pointer: Callable[[], Any], count: int, owner: FaissIndex) -> NDArray[Any]:
    """Return a read-only array of ``count`` elements that keeps the index alive."""
    if not count:
        return np.empty(0, dtype=np.int64)
    return np.asarray(_Held(faiss.rev_swig_ptr(pointer(), count), owner))


def aligned(part: NDArray[Any]) -> NDArray[Any]:
    """Return ``part``, or a copy if the file's header put it off a four-byte boundary.

    NumPy would make that copy in every operation, and other libraries do not look.
    """
    return np.require(part, requirements=["C", "A"])


def joined(parts: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    if len(parts) == 1:
        return aligned(parts[0])
    return np.concatenate(parts) if parts else empty


def will_need(part: NDArray[Any]) -> None:
    """Have the system read a part of a mapped file, without waiting for it.

    FAISS maps files for random access: without this, a disk is asked for each page by itself, which
    is ten times slower. Of no effect if memory is no file's, or if a system cannot do it.
    """
    if _advise is None or not part.nbytes:
        return
    start = part.ctypes.data // _PAGE * _PAGE
    length = part.ctypes.data + part.nbytes - start
    # What it answers is of no use: at worst pages are read when they are used.
    _advise(ctypes.c_void_p(start), ctypes.c_size_t(length), _WILL_NEED)
