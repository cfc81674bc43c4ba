"""From an opened index to its rows."""

from __future__ import annotations

import faiss

from vecmigrate_faiss.coded_rows import (
    CodedRows,
    IvfCodedRows,
    IvfFastScanRows,
    RefinedRows,
    TransformedRows,
)
from vecmigrate_faiss.index_kind import FaissIndex
from vecmigrate_faiss.rows import FlatRows, IvfRows, MappedRows, Rows


def rows_of(index: FaissIndex, owner: FaissIndex | None = None) -> Rows:
    """Return the rows of an index of a kind that is known.

    Parameters
    ----------
    owner
        What keeps the memory of ``index``, where it is a part of another one.

    Raises
    ------
    RuntimeError
        Where its parts do not agree.
    """
    owner = index if owner is None else owner
    if isinstance(index, faiss.IndexIDMap):
        return MappedRows(_inner(index, index.index, owner), index)
    if isinstance(index, faiss.IndexPreTransform):
        return TransformedRows(_inner(index, index.index, owner, other_dimension=True), index)
    if isinstance(index, faiss.IndexRefine):
        return RefinedRows(_inner(index, index.refine_index, owner), index)
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
