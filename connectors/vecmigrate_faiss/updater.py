"""Changes points of an index file."""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    Lease,
    LeaseFile,
    MismatchError,
    Payload,
    Provenance,
    StoreURI,
    Updater,
    VectorBatch,
    Vectors,
    check_dimension,
    id_array,
    writing,
)
from vecmigrate_faiss.exchange import complete, exchange, is_exchanged, new_files
from vecmigrate_faiss.files import build_files
from vecmigrate_faiss.index.base import scaled_for
from vecmigrate_faiss.index.build import Carried, can_carry
from vecmigrate_faiss.index.kinds import IndexSettings
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.source import FaissSource
from vecmigrate_faiss.spool import Spool

_READ = 8192


class FaissUpdater(Updater):
    """Changes that become a new index file at :meth:`finish`, in the place of the old one.

    All kinds of index are written anew by streaming the old file: Flat passes through, others keep
    what they were trained to and the codes of points that stay, graphs are built again. Beside the
    index there must be room for the collection twice.

    Raises
    ------
    LockedError
        If another run changes it now, or, from any method, took it over.
    """

    def __init__(self, uri: StoreURI, location: Location, provenance: Provenance | None) -> None:
        self._uri = uri
        self._location = location
        self._provenance = provenance
        self._done = False
        FaissSource(uri, location).close()  # raises what keeps it from being read
        self._lease = Lease(LeaseFile.beside(location.index), location.index)
        with self._lease.claimed():
            self._open()

    def _open(self) -> None:
        """Find what the index is, now that no other run changes it, and what a killed run left."""
        location = self._location
        with FaissSource(self._uri, location) as source:
            self._description = source.describe()
        if self._description.provenance is None:
            raise MismatchError(
                f"{location.index} was not written by vecmigrate migrate",
                remedy="Name a collection that it wrote.",
            )
        self._settings = IndexSettings.model_validate(self._description.settings)
        if not can_carry(self._settings.index):
            raise MismatchError(
                f"{location.index} is of the kind {self._settings.words}: if points change, the "
                "vectors of others would too",
                remedy="Migrate to a new target instead, or choose another kind with ?index=.",
            )
        with writing(location.index):
            location.update.mkdir(exist_ok=True)
            complete(location)
            for path in location.update.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            self._changes = Changes(location.update / "changes", self._description.dimension)

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._description.dimension, self._uri)
        self._lease.check()
        vectors = scaled_for(self._description.metric, batch.vectors)
        with writing(self._location.update):
            self._changes.upsert(batch, vectors)

    def delete(self, ids: IdArray) -> None:
        self._changes.delete(ids)

    def finish(self) -> CollectionDescription:
        with writing(self._location.index):
            if len(self._changes):
                self._publish()
        self._let_go()
        self._done = True
        with FaissSource(self._uri, self._location) as source:
            return source.describe()

    def abort(self) -> None:
        if not self._done:
            self._let_go()

    def _publish(self) -> None:
        described = self._description
        folder = new_files(self._location)
        folder.mkdir()
        made = Spool(folder, described.dimension)
        try:
            with FaissSource(self._uri, self._location) as old:
                origins = []
                for batch, rows in self._changes.applied_to(old.batches(_READ)):
                    made.append(batch, np.ascontiguousarray(batch.vectors))
                    origins.append(rows)
            build_files(
                made,
                self._settings,
                described.metric,
                described.text_field,
                self._provenance,
                notes=described.notes,
                carried=Carried(self._location.index, np.concatenate(origins)),
            )
            self._lease.check()
            exchange(self._location, made)
        finally:
            if is_exchanged(self._location) or not self._lease.is_held:
                # The index has the name already, or another run is at work: what lies here is its.
                made.close()
            else:
                made.discard()

    def _let_go(self) -> None:
        if self._lease.is_held:
            self._changes.discard()
            with suppress(OSError):
                # Versions before had a lock there.
                (self._location.update / "lock").unlink(missing_ok=True)
                # Only if it is empty otherwise: an exchange that failed is to be completed.
                self._location.update.rmdir()
        self._lease.release()


_DELETED = 0
_CHUNK = 4096


class Changes:
    """Points written and deleted; of each id the last word counts.

    Memory is 24 bytes for each change.
    """

    def __init__(self, directory: Path, dimension: int) -> None:
        directory.mkdir()
        self._spool = Spool(directory, dimension)
        self._ids: list[IdArray] = []
        self._values: list[Int64s] = []

    def __len__(self) -> int:
        return sum(map(len, self._ids))

    def upsert(self, batch: VectorBatch, vectors: Vectors) -> None:
        """Note points with ``vectors`` in place of the batch's own."""
        first = self._spool.count + 1
        self._spool.append(batch, vectors)
        self._ids.append(batch.ids.copy())
        self._values.append(np.arange(first, first + len(batch), dtype=np.int64))

    def delete(self, ids: IdArray) -> None:
        """Note ids that are to go."""
        self._ids.append(ids.copy())
        self._values.append(np.full(len(ids), _DELETED, dtype=np.int64))

    def applied_to(self, batches: Iterator[VectorBatch]) -> Iterator[tuple[VectorBatch, Int64s]]:
        """Yield the batches with changed points in their places, and new ones at the end.

        With each comes ``(n,)`` int64: the number that a point has among all of ``batches``, -1
        if it has a new vector.
        """
        self._spool.sync()
        vectors, payloads = self._spool.vectors(), _Lines(self._spool)
        hashed = any(ids.dtype != np.int64 for ids in self._ids)
        table = self._table(hashed)
        # An index has ids of one kind; if its own are no integers, those of changes are hashed.
        left = np.ones(self._spool.count + 1, dtype=bool)
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
        self._spool.discard()

    def _table(self, hashed: bool) -> IdTable:
        keys = np.concatenate([_keys(ids, hashed) for ids in self._ids])[::-1]
        values = np.concatenate(self._values)[::-1]
        unique, last = np.unique(keys, return_index=True)
        return IdTable(unique, values[last])


class _Lines:
    """Payloads by row."""

    def __init__(self, spool: Spool) -> None:
        self.there = spool.has_payloads
        self._text: mmap.mmap | None = None
        self._bounds: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        if self.there:
            with spool.payload_file.open("rb") as file:
                self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                lengths = np.fromiter((len(line) for line in file), np.int64, spool.count)
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
