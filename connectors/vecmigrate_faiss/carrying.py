"""Takes over from an index what points that stay as they are have there."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from vecmigrate.connector import Vectors
from vecmigrate_faiss.coded_rows import TransformedRows
from vecmigrate_faiss.index_kind import FaissIndex, IndexKind
from vecmigrate_faiss.layout import read_index
from vecmigrate_faiss.lookup import Int64s
from vecmigrate_faiss.rows import MappedRows
from vecmigrate_faiss.walking import rows_of
from vecmigrate_faiss.wrapping_kinds import PreTransformKind


def can_carry(kind: IndexKind) -> bool:
    """Tell whether points of such an index can stay exactly as they are when others change."""
    inner = kind.index if isinstance(kind, PreTransformKind) else kind
    return inner.copies_codes or inner.encodes_again_alike


class Carried:
    """An index in training and codes, for one that replaces it.

    Encoding a vector that was decoded may give another code, or put it into another list: where
    codes can be copied, they are.

    Parameters
    ----------
    path
        The index file.
    origins
        ``(n,)`` int64: for each point of the new index its row in the old one, -1 where it has a
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
        """True where there is a training to take over."""
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
