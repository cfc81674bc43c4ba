"""Writes a Flat index straight to its file, so that the vectors need not fit in memory.

FAISS's own headers are taken from an empty index; only the counts in them are set here. A reader
checks them: FAISS refuses a file whose counts and lengths do not agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np

from vecmigrate.connector import Vectors
from vecmigrate_faiss.index_kind import FaissIndex
from vecmigrate_faiss.lookup import Int64s

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
    wrapped = isinstance(empty, faiss.IndexIDMap)
    flat = faiss.serialize_index(faiss.downcast_index(empty.index) if wrapped else empty).tobytes()
    whole = faiss.serialize_index(empty).tobytes()
    ids: list[Int64s] = []
    with path.open("wb") as file:
        if wrapped:
            file.write(_with_count(whole[: -len(flat) - _LENGTH], count))
        file.write(_with_count(flat[:-_LENGTH], count))
        file.write(np.int64(count * empty.d).tobytes())
        for vectors, numbers in chunks:
            file.write(vectors.data)
            if wrapped:
                ids.append(numbers)
        if wrapped:
            file.write(np.int64(count).tobytes())
            for numbers in ids:
                file.write(numbers.data)


def _with_count(header: bytes, count: int) -> bytes:
    return header[:_COUNT_AT] + np.int64(count).tobytes() + header[_COUNT_AT + _LENGTH :]
