"""Rows of indexes that store codes, or transformed vectors, turned back as they are read."""

from __future__ import annotations

from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import MappedFile, Vectors
from vecmigrate_faiss.index.base import FaissIndex
from vecmigrate_faiss.index.rows import Codes, FlatRows, IvfRows, MappedRows, Rows, view, will_need
from vecmigrate_faiss.lookup import Int64s


class CodedRows(Rows):
    """Codes in a row, their ids being their positions."""

    numbered = True

    def __init__(self, storage: FaissIndex, owner: FaissIndex) -> None:
        super().__init__(storage.ntotal, storage.d)
        self._storage, self._owner = storage, owner

    def vectors(self, start: int, stop: int) -> Vectors:
        vectors: Vectors
        if isinstance(self._storage, faiss.IndexFastScan):
            # Its codes lie in blocks, which FAISS alone reads.
            vectors = self._storage.reconstruct_n(start, stop - start)
            if self.file is not None:
                self.file.check()
        else:
            codes = self._read(self._all_codes()[start:stop])
            vectors = self._storage.sa_decode(np.ascontiguousarray(codes))
        return vectors

    def soon(self, start: int, stop: int) -> None:
        will_need(self._all_codes()[start:stop])

    def take(self, rows: Int64s) -> Vectors:
        vectors: Vectors = self._storage.reconstruct_batch(rows)
        return vectors

    def stored(self, vectors: Vectors) -> Vectors:
        coded: Vectors = self._storage.sa_decode(self._storage.sa_encode(vectors))
        return coded

    def codes(self, rows: Int64s) -> Codes:
        return self._all_codes()[rows]

    def _all_codes(self) -> Codes:
        width = self._storage.code_size
        codes = view(self._storage.codes.data, self.count * width, self._owner)
        return codes.view(np.uint8).reshape(self.count, width)


class IvfCodedRows(IvfRows):
    """Codes and ids in inverted lists, decoded a part of a list at a time."""

    def stored(self, vectors: Vectors) -> Vectors:
        coded: Vectors = self._index.sa_decode(self._index.sa_encode(vectors))
        return coded

    def _decoded(self, number: int, codes: Codes) -> Vectors:
        vectors: Vectors = self._index.sa_decode(self._whole(number, codes))
        return vectors


class IvfFastScanRows(IvfRows):
    """Codes in blocks that FAISS's SIMD search reads; its own decoder does not know them."""

    def stored(self, vectors: Vectors) -> Vectors:
        if not self._index.by_residual:
            return self._coded(vectors)
        _, lists = self._index.quantizer.search(vectors, 1)
        centroids = self._index.quantizer.reconstruct_batch(lists[:, 0])
        coded: Vectors = self._coded(np.ascontiguousarray(vectors - centroids)) + centroids
        return coded

    def _coded(self, vectors: Vectors) -> Vectors:
        coded: Vectors = self._index.pq.decode(self._index.pq.compute_codes(vectors))
        return coded

    def _list_codes(self, number: int) -> Codes:
        packer = self._lists.packer
        blocks = -(-self._size(number) // packer.nvec)
        read = partial(self._lists.get_codes, number)
        packed = view(read, blocks * packer.block_size, self._owner)
        packed = np.ascontiguousarray(packed.view(np.uint8).reshape(blocks, packer.block_size))
        codes = np.empty((blocks, packer.nvec, packer.code_size), dtype=np.uint8)
        for block, unpacked in zip(packed, codes, strict=True):
            packer.unpack_all(faiss.swig_ptr(block), faiss.swig_ptr(unpacked))
        return codes.reshape(-1, packer.code_size)[: self._size(number)]

    def _decoded(self, number: int, codes: Codes) -> Vectors:
        vectors: Vectors = self._index.pq.decode(np.ascontiguousarray(codes))
        if self._index.by_residual:
            vectors += self._index.quantizer.reconstruct(number)
        return vectors


class TransformedRows(Rows):
    """Rows of an index behind transformations, turned back by their (pseudo-)inverses."""

    def __init__(self, inner: Rows, index: FaissIndex) -> None:
        super().__init__(inner.count, index.d)
        self.inner = inner
        self.numbered = inner.numbered
        chain = [index.chain.at(i) for i in range(index.chain.size())]
        self._chain = [faiss.downcast_VectorTransform(transform) for transform in chain]
        self._owner = index
        self._inverses = [_inverse(transform) for transform in self._chain]

    def read_from(self, file: MappedFile) -> None:
        super().read_from(file)
        self.inner.read_from(file)

    def ids(self, start: int, stop: int) -> Int64s:
        return self.inner.ids(start, stop)

    def vectors(self, start: int, stop: int) -> Vectors:
        return self._back(self.inner.vectors(start, stop))

    def soon(self, start: int, stop: int) -> None:
        self.inner.soon(start, stop)

    def take(self, rows: Int64s) -> Vectors:
        return self._back(self.inner.take(rows))

    def stored(self, vectors: Vectors) -> Vectors:
        return self._back(self.inner.stored(self.forward(vectors)))

    def last_stored_id(self) -> int | None:
        return self.inner.last_stored_id()

    def forward(self, vectors: Vectors) -> Vectors:
        """Return ``(n, d)`` vectors as the inner index is given them."""
        for transform in self._chain:
            vectors = transform.apply(vectors)
        return vectors

    def _back(self, vectors: Vectors) -> Vectors:
        for transform, inverse in zip(reversed(self._chain), reversed(self._inverses), strict=True):
            if inverse is None:
                vectors = transform.reverse_transform(np.ascontiguousarray(vectors))
            else:
                # In float64, since a product's last bits depend on how many rows it has, and what
                # is read of a point is not to depend on the batch.
                matrix, offset = inverse
                vectors = ((vectors - offset) @ matrix).astype(np.float32)
        return vectors


def _inverse(transform: FaissIndex) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return what undoes a linear map; FAISS's own way is right for orthonormal ones only."""
    if not isinstance(transform, faiss.LinearTransform):
        return None
    matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
    offset = np.zeros(transform.d_out)
    if transform.have_bias:
        offset = faiss.vector_to_array(transform.b).astype(np.float64)
    return np.linalg.pinv(matrix.astype(np.float64)).T, offset


def rows_of(index: FaissIndex, owner: FaissIndex | None = None) -> Rows:
    """Return the rows of an index of a kind that is known.

    Parameters
    ----------
    owner
        What keeps the memory of ``index``, if it is a part of another one.

    Raises
    ------
    RuntimeError
        If its parts do not agree.
    """
    owner = index if owner is None else owner
    if isinstance(index, faiss.IndexIDMap):
        return MappedRows(_inner(index, index.index, owner), index)
    if isinstance(index, faiss.IndexPreTransform):
        return TransformedRows(_inner(index, index.index, owner, other_dimension=True), index)
    if isinstance(index, faiss.IndexRefine):
        if index.base_index.ntotal != index.ntotal:
            raise RuntimeError("its two indexes differ in count")
        return _inner(index, index.refine_index, owner)
    if isinstance(index, faiss.IndexIVFFlat):
        return IvfRows(index, owner)
    if isinstance(index, faiss.IndexIVFFastScan):
        return IvfFastScanRows(index, owner)
    if isinstance(index, faiss.IndexIVF):
        return IvfCodedRows(index, owner)
    if isinstance(index, faiss.IndexHNSW | faiss.IndexNSG):
        return _inner(index, index.storage, owner)
    if isinstance(index, faiss.IndexFlat):
        return FlatRows(index, owner)
    return CodedRows(index, owner)


def _inner(
    index: FaissIndex, part: FaissIndex, owner: FaissIndex, *, other_dimension: bool = False
) -> Rows:
    inner = faiss.downcast_index(part)
    if inner.ntotal != index.ntotal or not (other_dimension or inner.d == index.d):
        raise RuntimeError("its parts differ in dimension or count")
    return rows_of(inner, owner)
