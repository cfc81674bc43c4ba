"""Reads an array of vectors, with its ids and payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    MappedFile,
    Metric,
    PointId,
    RowSource,
    StoreURI,
    VectorBatch,
    arrow,
    detect_id_kind,
    files_stamp,
    id_array,
    name_some,
    refuse_missing,
    steps,
)
from vecmigrate_files.ids import IdColumn, RowNumbers
from vecmigrate_files.npy.payloads import JsonLines, ParquetPayloads, RowPayloads, is_parquet
from vecmigrate_files.npy.place import OPTIONS, NpyPlace
from vecmigrate_files.place import fingerprint_of, reading

_SAMPLE = 100


class NpySource(RowSource):
    """Rows of a mapped array."""

    def __init__(self, uri: StoreURI) -> None:
        self.where = uri
        self._place = place = NpyPlace.parse(uri, OPTIONS)
        place.metric()
        place.refuse_unfinished()
        self._mark = mark = place.mark()
        self._ids_path = place.found("ids", mark.ids if mark else None)
        payload = place.found("payload", mark.payload if mark else None)
        files = (place.path, self._ids_path, payload)
        self._files = files_stamp(path for path in files if path is not None)
        self._vectors = open_vectors(uri, place.path)
        self._file = MappedFile(place.path)
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
        return self._place.described(
            mark,
            sample,
            known,
            store="npy",
            index_type=f"no index (array of {self._vectors.dtype.name})",
            count=len(self._vectors),
            dimension=self._vectors.shape[1],
            metric=self._place.metric() or (mark.metric if mark else Metric.COSINE),
            id_kind=detect_id_kind(self._ids.slice(0, _SAMPLE).tolist()),
            notes=tuple(self._notes()),
        )

    def stamp(self) -> str | None:
        return None if self._files is None else f"{self.describe().fingerprint()} {self._files}"

    def row_count(self) -> int:
        return len(self._vectors)

    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        read = self._payloads.batches(size, first) if payloads and self._payloads else None
        for start, stop in steps(first, last, size):
            found = None if read is None else next(read)
            yield VectorBatch(
                self._ids.slice(start, stop - start),
                np.ascontiguousarray(self._file.copied(self._vectors[start:stop]), np.float32),
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


_IDS_A_STEP = 1 << 16


def open_vectors(what: object, path: Path) -> NDArray[Any]:
    """Map an array of vectors, ``(n, d)`` float16, float32 or float64, without reading it.

    Raises
    ------
    InputError
        If it is not there, or is none.
    """
    array = _mapped(what, path)
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind != "f":
        raise InputError(
            f"{path} holds an array of {array.dtype} and shape {array.shape}, no vectors",
            remedy="Save floats of the shape (vectors, dimensions), by numpy.save.",
        )
    return array


def open_ids(what: object, path: Path, count: int) -> IdColumn:
    """Read an array of ``count`` ids.

    Raises
    ------
    InputError
        If there are more or fewer, or they are neither integers nor text.
    """
    array = _mapped(what, path)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise InputError(
            f"{path} holds an array of {array.dtype} and shape {array.shape}, no ids",
            remedy="Save integers or text of the shape (vectors,), by numpy.save.",
        )
    if len(array) != count:
        raise InputError(
            f"{path} holds {len(array)} ids, and there are {count} vectors",
            remedy="Save one id for each row of the vectors.",
        )
    parts = [
        _part(path, array[start : start + _IDS_A_STEP], start)
        for start in range(0, count, _IDS_A_STEP)
    ]
    return IdColumn(pa.chunked_array(parts or [pa.array([], pa.int64())]))


def _part(path: Path, ids: NDArray[Any], start: int) -> Any:
    with reading(path):
        if ids.dtype.kind == "S":
            ids = np.char.decode(ids, "utf-8")
        if not ids.dtype.isnative:
            ids = ids.astype(ids.dtype.newbyteorder("="))
        column = pa.array(ids)
    return arrow.plain_ids(column, lambda at: f"{path} row {start + at}")


def _mapped(what: object, path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise InputError(
            f"{what}: {path} is not there", remedy="Name a file that numpy.save has written."
        )
    with reading(path):
        try:
            # Refuses arrays of Python objects, which only unpickling would read.
            return np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            if "Python objects" not in str(error):
                raise
            raise InputError(
                f"{path} holds an array of Python objects, which is not read",
                remedy="Save an array of numbers, or of text (astype(str)), by numpy.save.",
            ) from error
