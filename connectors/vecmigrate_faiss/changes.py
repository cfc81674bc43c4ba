"""Changes to a collection, on disk until it is made anew with them."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import IdArray, Payload, VectorBatch, Vectors, id_array
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.staging import Staging

_DELETED = 0
_CHUNK = 4096


class Changes:
    """Points written and deleted; of each id the last word counts.

    Memory is 24 bytes for each change.
    """

    def __init__(self, directory: Path, dimension: int) -> None:
        self._staging = Staging(directory, dimension)
        self._ids: list[IdArray] = []
        self._values: list[Int64s] = []

    def __len__(self) -> int:
        return sum(map(len, self._ids))

    def upsert(self, batch: VectorBatch, vectors: Vectors) -> None:
        """Note points with ``vectors`` in place of the batch's own."""
        first = self._staging.count + 1
        self._staging.append(batch, vectors)
        self._ids.append(batch.ids.copy())
        self._values.append(np.arange(first, first + len(batch), dtype=np.int64))

    def delete(self, ids: IdArray) -> None:
        """Note ids that are to go."""
        self._ids.append(ids.copy())
        self._values.append(np.full(len(ids), _DELETED, dtype=np.int64))

    def applied_to(self, batches: Iterator[VectorBatch]) -> Iterator[tuple[VectorBatch, Int64s]]:
        """Yield the batches with changed points in their places, and new ones at the end.

        With each comes ``(n,)`` int64: the number that a point has among all of ``batches``, -1
        where it has a new vector.
        """
        self._staging.sync()
        vectors, payloads = self._staging.vectors(), _Lines(self._staging)
        hashed = any(ids.dtype != np.int64 for ids in self._ids)
        table = self._table(hashed)
        # An index has ids of one kind; where its own are no integers, those of changes are hashed.
        left = np.ones(self._staging.count + 1, dtype=bool)
        read = 0
        for batch in batches:
            origins = np.arange(read, read + len(batch), dtype=np.int64)
            read += len(batch)
            if not hashed and batch.ids.dtype != np.int64:
                hashed, table = True, self._table(True)
            found = table.find(_keys(batch.ids, hashed))
            rows = np.flatnonzero(found > _DELETED)
            if len(rows):
                batch = _replaced(batch, rows, found[rows] - 1, vectors, payloads)
                left[found[rows]] = False
                origins[rows] = -1
            stays = found != _DELETED
            yield (batch, origins) if stays.all() else (batch.take(stays), origins[stays])
        for start in range(len(self._ids)):
            values = self._values[start]
            latest = (table.find(_keys(self._ids[start], hashed)) == values) & (values > _DELETED)
            latest &= left[values]
            for low in range(0, len(values), _CHUNK):
                new = low + np.flatnonzero(latest[low : low + _CHUNK])
                if len(new):
                    at = values[new] - 1
                    added = VectorBatch(
                        self._ids[start][new],
                        np.ascontiguousarray(vectors[at]),
                        [payloads[int(row)] for row in at] if payloads.there else None,
                    )
                    yield added, np.full(len(new), -1, dtype=np.int64)

    def discard(self) -> None:
        """Remove them; may be called again."""
        self._staging.discard()

    def _table(self, hashed: bool) -> IdTable:
        keys = np.concatenate([_keys(ids, hashed) for ids in self._ids])[::-1]
        values = np.concatenate(self._values)[::-1]
        unique, last = np.unique(keys, return_index=True)
        return IdTable(unique, values[last])


class _Lines:
    """Payloads by row."""

    def __init__(self, staging: Staging) -> None:
        self.there = staging.has_payloads
        self._text: mmap.mmap | None = None
        self._bounds: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        if self.there:
            with staging.payload_file.open("rb") as file:
                self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                lengths = np.fromiter((len(line) for line in file), np.int64, staging.count)
            self._bounds = np.concatenate(([0], np.cumsum(lengths)))

    def __getitem__(self, row: int) -> Payload:
        if self._text is None:
            return {}
        payload: Payload = json.loads(self._text[self._bounds[row] : self._bounds[row + 1]])
        return payload


def _replaced(
    batch: VectorBatch, rows: NDArray[np.intp], at: Int64s, vectors: Vectors, payloads: _Lines
) -> VectorBatch:
    changed = batch.vectors.copy()
    changed[rows] = vectors[at]
    fields = None
    if batch.payloads is not None or payloads.there:
        fields = list(batch.each_payload())
        for row, place in zip(rows.tolist(), at.tolist(), strict=True):
            fields[row] = payloads[place]
    return VectorBatch(batch.ids, changed, fields)


def _keys(ids: IdArray, hashed: bool) -> Int64s:
    if not hashed:
        return ids
    digests = (
        hashlib.blake2b(json.dumps(i).encode(), digest_size=8).digest()
        for i in id_array(ids).tolist()
    )
    return np.frombuffer(b"".join(digests), dtype=np.int64)
