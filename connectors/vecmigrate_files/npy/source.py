"""Reads an array of vectors, with its ids and payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    Metric,
    PointId,
    RowSource,
    StoreURI,
    VectorBatch,
    detect_id_kind,
    detect_text_field,
    id_array,
    name_some,
    refuse_missing,
    steps,
)
from vecmigrate_files.ids import IdColumn, RowNumbers
from vecmigrate_files.npy.arrays import open_ids, open_vectors
from vecmigrate_files.npy.payloads import JsonLines, ParquetPayloads, RowPayloads, is_parquet
from vecmigrate_files.npy.place import OPTIONS, NpyPlace
from vecmigrate_files.place import Place, fingerprint_of

_SAMPLE = 100


class NpySource(RowSource):
    """Rows of a mapped array; those of float32 are handed out as they lie on the disk."""

    def __init__(self, uri: StoreURI) -> None:
        self.where = uri
        self._place = Place.parse(uri, OPTIONS)
        self._place.metric()
        self._place.refuse_unfinished()
        names = NpyPlace(self._place)
        self._vectors = open_vectors(uri, self._place.path)
        self._mark = mark = names.mark()
        self._ids_path = names.found("ids", mark.ids if mark else None)
        payload = names.found("payload", mark.payload if mark else None)
        self._payloads: RowPayloads | None = None
        if payload is not None:
            opened = ParquetPayloads if is_parquet(payload) else JsonLines
            self._payloads = opened(uri, payload)
        if self._place.option("text"):
            self.describe()

    def describe(self) -> CollectionDescription:
        return self._description

    @cached_property
    def _description(self) -> CollectionDescription:
        mark, payloads = self._mark, self._payloads
        sample = [] if payloads is None else payloads.head(_SAMPLE)
        known = () if payloads is None else payloads.fields
        fields = dict.fromkeys([*known, *(name for p in sample for name in p)])
        noted = (mark.text if mark else None) or detect_text_field(sample)
        return CollectionDescription(
            uri=str(self._place.uri),
            store="npy",
            index_type=f"no index (array of {self._vectors.dtype.name})",
            count=len(self._vectors),
            dimension=self._vectors.shape[1],
            metric=self._place.metric() or (mark.metric if mark else Metric.COSINE),
            id_kind=detect_id_kind(self._ids.slice(0, _SAMPLE).tolist()),
            payload_fields=tuple(fields),
            text_field=self._place.text_field(noted, fields),
            notes=tuple(self._notes()),
            provenance=mark.provenance if mark else None,
        )

    def row_count(self) -> int:
        return len(self._vectors)

    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        read = self._payloads.batches(size, first) if payloads and self._payloads else None
        for start, stop in steps(first, last, size):
            found = None if read is None else next(read)
            yield VectorBatch(
                self._ids.slice(start, stop - start),
                np.ascontiguousarray(self._vectors[start:stop], np.float32),
                None if found is None else found[: stop - start],
                cursor=str(stop),
            )

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        self.check_rows()
        for first in range(0, len(self._vectors), batch_size):
            yield self._ids.slice(first, batch_size)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        self.check_rows()
        wanted = id_array(ids)
        rows = self._ids.rows(wanted.tolist())
        missing = [i for i, row in zip(wanted.tolist(), rows.tolist(), strict=True) if row < 0]
        refuse_missing(missing, self._place.uri)
        payloads = None
        if self._payloads is not None:
            distinct, order = np.unique(rows, return_inverse=True)
            found = self._payloads.take(distinct)
            payloads = [found[at] for at in order.tolist()]
        return VectorBatch(wanted, np.ascontiguousarray(self._vectors[rows], np.float32), payloads)

    def fingerprint(self) -> str:
        ids = [] if self._ids_path is None else [self._ids_path]
        payloads = [] if self._payloads is None else self._payloads.paths
        return fingerprint_of([self._place.path, *ids, *payloads])

    def close(self) -> None:
        """The mapping goes with the last batch that views it."""

    @cached_property
    def _ids(self) -> IdColumn | RowNumbers:
        if self._ids_path is None:
            return RowNumbers(len(self._vectors))
        return open_ids(self._place.uri, self._ids_path, len(self._vectors))

    def check_rows(self) -> None:
        """Refuse ids that come twice, and payloads that cannot be told whose they are."""
        if self._problem is not None:
            raise InputError(self._problem[0], remedy=self._problem[1])

    @cached_property
    def _problem(self) -> tuple[str, str] | None:
        count = len(self._vectors)
        if self._payloads is not None and self._payloads.count() != count:
            return (
                f"{self._payloads.paths[0]} holds {self._payloads.count()} payloads, and there "
                f"are {count} vectors",
                "Write one payload for each row of the vectors.",
            )
        repeated = self._ids.first_repeated()
        if repeated is None:
            return None
        found, first, second = repeated
        return (
            f"{self._ids_path} has the id {found} twice: in row {first} and row {second}",
            "Give each row an id of its own.",
        )

    def _notes(self) -> list[str]:
        notes = []
        if self._mark is None and self._place.metric() is None:
            notes.append("nothing tells the metric: taken as cosine; or ?metric=")
        if self._ids_path is None and self._mark is None:
            notes.append("ids are row numbers; or ?ids=FILE.npy")
        if self._payloads is not None and self._payloads.left_out:
            notes.append(f"columns not carried over: {name_some(self._payloads.left_out)}")
        return notes
