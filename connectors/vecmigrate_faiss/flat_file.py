"""Writes a Flat index straight to its file, so that the vectors need not fit in memory.

FAISS's own headers are taken from an empty index; only the counts in them are set here. A reader
checks them: FAISS refuses a file whose counts and lengths do not agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
