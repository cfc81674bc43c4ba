"""Reads an index file with its sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    IdKind,
    InputError,
    Metric,
    Payload,
    PointId,
    RowSource,
    StoreURI,
    UsageError,
    VectorBatch,
    Vectors,
    detect_id_kind,
    detect_text_field,
    files_stamp,
    id_array,
    refuse_missing,
    steps,
)
from vecmigrate_faiss.companion import Companion, read_companion
from vecmigrate_faiss.exchange import edition
from vecmigrate_faiss.index.base import FaissIndex, scaled_for
from vecmigrate_faiss.index.read import LoadedIndex, load_index, open_layout, read_index, reading
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.sidecars import open_sidecar
from vecmigrate_faiss.sidecars.base import Record, Sidecar

_SAMPLE = 200
_MOST_QUERIES = 1024
_BATCHES_AHEAD = 4
"""What a disk is asked for beyond the batch in hand."""


class FaissSource(RowSource):
    """A FAISS index file, memory-mapped, its rows in storage order.

    Ids that an index has more than once are yielded as they are by :meth:`batches`, which does not
    look for them; :meth:`fetch` and :meth:`nearest` refuse such an index.
    """

    fingerprint_tells_all = True
    thread_safe = True

    def __init__(self, uri: StoreURI, location: Location) -> None:
        self._uri = uri
        self.where = self._path = location.index
        self._sidecar: Sidecar | None = None
        self._loaded: LoadedIndex | None = None
        while True:
            before = edition(location)
            try:
                index = files_stamp([location.index])
                self._open(uri, location)
                beside = files_stamp(self._sidecar.files if self._sidecar else ())
                self._files = None if None in (index, beside) else f"{index} {beside}"
            except (InputError, FileNotFoundError):
                # Files of two editions may not fit, and a file may get its name between being
                # looked for and being opened; what is there now is opened instead.
                if edition(location) == before:
                    raise
            if edition(location) == before:
                break
            self.close()
        self._table: IdTable | None = None
        # Of the sidecar, and of what is made when it is first needed.
        self._lock = Lock()
        self._description = self._describe()

    def _open(self, uri: StoreURI, location: Location) -> None:
        self._layout = open_layout(location.index)
        self._rows = self._layout.rows
        self._companion = _companion_of(location, self._rows.dimension)
        self._sidecar = open_sidecar(uri, location, self._companion)

    def fingerprint(self) -> str:
        """Sizes and times of the index and its sidecar, beside the description."""
        files = [self._path, *([self._sidecar.path] if self._sidecar else [])]
        stats = ((path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        return "-".join([super().fingerprint(), *(f"{size}.{time}" for size, time in stats)])

    def stamp(self) -> str | None:
        return None if self._files is None else f"{self._description.fingerprint()} {self._files}"

    def describe(self) -> CollectionDescription:
        return self._description

    def row_count(self) -> int:
        return self._rows.count

    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        announced = first
        for start, stop in steps(first, last, size):
            with reading(self._path):
                ahead = min(stop + _BATCHES_AHEAD * size, last)
                self._rows.soon(announced, ahead)
                announced = ahead
                faiss_ids = self._rows.ids(start, stop)
                vectors = self._rows.vectors(start, stop)
            if self._sidecar and payloads:
                records = self._sidecar.lookup(faiss_ids)
                ids, fields = self._named(faiss_ids, records), _payloads(records)
            else:
                ids, fields = self._named(faiss_ids), None
            yield VectorBatch(ids, vectors, fields, str(stop))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        for start, stop in steps(0, self._rows.count, batch_size):
            with reading(self._path):
                faiss_ids = self._rows.ids(start, stop)
            yield self._named(faiss_ids)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        """Return the points with these ids, payloads included, in the order asked for.

        Raises
        ------
        MissingIdsError
            Names the ids that are not there, up to ten.
        InputError
            If the index has an id more than once.
        """
        wanted = id_array(ids)
        with self._lock:
            rows, records = self._find(wanted)
        vectors = self._rows.take(rows)
        return VectorBatch(wanted, vectors, None if records is None else _payloads(records))

    def texts(self, ids: Sequence[PointId] | IdArray) -> list[str | None]:
        field = self._description.text_field
        if field is None:
            return super().texts(ids)
        _, records = self._find(id_array(ids))
        values = [payload.get(field) for payload in _payloads(records or [])]
        return [v if isinstance(v, str) and v.strip() else None for v in values]

    def search(self, queries: Vectors, k: int) -> list[IdArray]:
        # Mapped, since an index may be larger than memory.
        index = self._loaded.index if self._loaded else read_index(self._path)
        return [self._named(faiss_ids) for faiss_ids in self._search(index, queries, k)]

    def nearest(
        self, queries: Vectors, k: int, *, where: str | None = None
    ) -> list[VectorBatch] | None:
        """As of any source; the first call reads the index into memory."""
        if where is not None:
            return super().nearest(queries, k, where=where)
        with self._lock:
            if self._loaded is None:
                assert self._rows.file is not None
                self._loaded = load_index(self._path, self._rows.file)
            loaded, table = self._loaded, self._id_table()
        found = self._search(loaded.index, queries, k)
        faiss_ids = np.concatenate([np.empty(0, np.int64), *found])
        records = None
        with self._lock:
            if self._sidecar:
                records = self._sidecar.lookup(faiss_ids)
            ids = self._named(faiss_ids, records)
        vectors = loaded.rows.take(table.find(faiss_ids))
        points = VectorBatch(ids, vectors, None if records is None else _payloads(records))
        ends = np.cumsum([len(each) for each in found])
        return [
            points.take(np.arange(end - len(each), end))
            for each, end in zip(found, ends, strict=True)
        ]

    def _search(self, index: FaissIndex, queries: Vectors, k: int) -> list[Int64s]:
        """Return the FAISS ids of each query's ``k`` nearest, fewer if the index finds no more.

        Raises
        ------
        InputError
            If the queries are not of the index's dimension.
        """
        if not index.ntotal:
            return [np.empty(0, np.int64) for _ in queries]
        queries = scaled_for(self._description.metric, queries)
        found: list[Int64s] = []
        with reading(self._path):
            if queries.shape[1] != index.d:
                raise RuntimeError(f"queries of {queries.shape[1]} dimensions, it has {index.d}")
            for start in range(0, len(queries), _MOST_QUERIES):
                part = np.ascontiguousarray(queries[start : start + _MOST_QUERIES])
                _, ids = index.search(part, min(k, index.ntotal))
                found += [row[row >= 0] for row in ids]
        return found

    def search_parameter(self) -> str | None:
        return self._layout.settings.index.search_parameter

    def as_stored(self, vectors: Vectors) -> Vectors:
        return self._rows.stored(scaled_for(self._description.metric, vectors))

    def close(self) -> None:
        """Close the sidecar; vectors already yielded stay valid."""
        self._loaded = None
        if self._sidecar is not None:
            self._sidecar.close()

    def _find(self, wanted: IdArray) -> tuple[Int64s, Sequence[Record | None] | None]:
        """Return row numbers and, if there is a sidecar, records of points, all there."""
        records: Sequence[Record | None] | None = None
        if self._sidecar and self._sidecar.numbered:
            records = self._sidecar.lookup_originals(wanted.tolist())
            there = np.array([record is not None for record in records], dtype=bool)
            numbers = [0 if record is None else record.faiss_id for record in records]
            faiss_ids = np.array(numbers, dtype=np.int64)
        elif wanted.dtype == np.int64:
            there, faiss_ids = np.ones(len(wanted), dtype=bool), wanted
        else:
            ids = wanted.tolist()
            fits = [not isinstance(i, str) and -(2**63) <= i < 2**63 for i in ids]
            there = np.array(fits, dtype=bool)
            faiss_ids = np.where(there, wanted, 0).astype(np.int64)
        rows = self._id_table().find(faiss_ids)
        there &= rows >= 0
        refuse_missing(wanted[~there].tolist(), self._path)
        if self._sidecar and records is None:
            records = self._sidecar.lookup(faiss_ids)
        return rows, records

    def _id_table(self) -> IdTable:
        if self._table is None:
            with reading(self._path):
                table = IdTable(self._rows.ids(0, self._rows.count))
            if repeated := table.repeated():
                raise InputError(
                    f"{self._path} has more than one vector of id {', '.join(map(str, repeated))}",
                    remedy="Build the index with one vector for each id.",
                )
            self._table = table
        return self._table

    def _named(self, faiss_ids: Int64s, records: Sequence[Record | None] | None = None) -> IdArray:
        """Return the points' ids; ``records`` are the sidecar's, if they are read already."""
        if self._sidecar is None or not self._sidecar.numbered:
            return faiss_ids
        originals = np.empty(len(faiss_ids), dtype=object)
        for at, record in enumerate(records or self._sidecar.lookup(faiss_ids)):
            if record is None:
                raise InputError(
                    f"{self._sidecar.path} does not tell the id of vector {faiss_ids[at]}",
                    remedy="Use the sidecar that was written with this index.",
                )
            originals[at] = record.id
        return originals

    def _describe(self) -> CollectionDescription:
        companion, layout = self._companion, self._layout
        sample = self._sidecar.sample(_SAMPLE) if self._sidecar else []
        payloads = [record.payload for record in sample]
        fields = tuple(dict.fromkeys(name for payload in payloads for name in payload))
        id_kind = IdKind.INTEGER
        if self._sidecar and self._sidecar.numbered:
            id_kind = detect_id_kind([record.id for record in sample])
        return CollectionDescription(
            uri=str(self._uri),
            store="faiss",
            index_type=layout.settings.words,
            count=self._rows.count,
            dimension=self._rows.dimension,
            metric=Metric.COSINE if companion and companion.cosine else layout.metric,
            id_kind=id_kind,
            payload_fields=fields,
            text_field=self._text_field(payloads, fields),
            lossy=layout.settings.index.lossy,
            settings=layout.settings.as_json(),
            notes=layout.notes + (companion.notes if companion else ()),
            provenance=companion.provenance if companion else None,
        )

    def _text_field(self, payloads: Sequence[Payload], fields: Sequence[str]) -> str | None:
        if self._sidecar is None:
            return None
        named = self._uri.options.get("text")
        if named is not None and named not in fields:
            raise UsageError(
                f"{self._sidecar.path} has no field {named!r} in its first records",
                remedy=f"Name the one that holds the text, of: {', '.join(fields) or 'none'}.",
            )
        noted = self._companion.text_field if self._companion else None
        return named or noted or detect_text_field(payloads)


def _payloads(records: Sequence[Record | None]) -> list[Payload]:
    return [{} if record is None else record.payload for record in records]


def _companion_of(location: Location, dimension: int) -> Companion | None:
    companion = read_companion(location)
    if companion and companion.dimension != dimension:
        raise InputError(
            f"{location.companion} is of an index with {companion.dimension} dimensions, "
            f"{location.index} has {dimension}",
            remedy="Move the file away if the index is not the one that vecmigrate wrote.",
        )
    return companion
