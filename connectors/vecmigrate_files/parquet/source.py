"""Reads Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    LocalPlace,
    Metric,
    PointId,
    RowSource,
    StoreURI,
    TableMark,
    VectorBatch,
    arrow,
    detect_id_kind,
    files_stamp,
    id_array,
    name_some,
    refuse_missing,
)
from vecmigrate_files.ids import IdColumn, RowNumbers
from vecmigrate_files.parquet.columns import ROW_NUMBERS, columns_of, settings_of
from vecmigrate_files.parquet.data_file import DataFile, Piece
from vecmigrate_files.parquet.files import ParquetFiles
from vecmigrate_files.parquet.late import late_rows
from vecmigrate_files.place import fingerprint_of, reading

OPTIONS = ("id", "vector", "text", "metric")
_SAMPLE = 100
_IDS_A_STEP = 1 << 16


class ParquetSource(RowSource):
    """The rows of one file after another, a batch at a time."""

    changes_told_by = "statistics and the field's column"

    def __init__(self, uri: StoreURI) -> None:
        self.where = uri
        self._place = LocalPlace.parse(uri, OPTIONS)
        self._place.metric()
        self._place.refuse_unfinished()
        self._files = ParquetFiles(uri, self._place.path)
        stamp = files_stamp(file.path for file in self.files)
        as_opened = all(file.is_as_opened() for file in self.files)
        self._stamp = stamp if as_opened else None
        self._mark = TableMark.of(self._files.files[0].schema)
        self._columns = columns_of(self._place, self._files.files, self._mark)
        # Fields by folders, which no column has, are left to the source.
        rest = arrow.REST if self._mark else None
        self._payloads = arrow.PayloadReader(self._columns.payload, rest=rest)
        if self._place.option("text"):
            self.describe()

    def describe(self) -> CollectionDescription:
        return self._description

    @cached_property
    def _description(self) -> CollectionDescription:
        sample: list[dict[str, Any]] = []
        ids: list[PointId] = []
        # Files that vecmigrate wrote hold each payload field's name in the rows alone.
        head = next(self._files.steps(self._all_columns(vectors=False), _SAMPLE, 0), [])
        for piece in head:
            sample.extend(self._payloads_of(piece))
            ids.extend(arrow.ids_of(self._ids_of(piece)).tolist())
        groups = sum(file.footer.num_row_groups for file in self.files)
        place, mark = self._place, self._mark
        return place.described(
            mark,
            sample,
            self._payloads.fields,
            store="parquet",
            index_type=f"no index ({_counted(len(self.files), 'file')}, "
            f"{_counted(groups, 'row group')})",
            count=self._files.count,
            dimension=self._dimension,
            metric=place.metric() or (mark.metric if mark else Metric.COSINE),
            id_kind=detect_id_kind(ids),
            settings=settings_of(self.files[0], self._columns, self._payloads),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> list[str]:
        notes = []
        if self._mark is None and self._place.metric() is None:
            notes.append("nothing tells the metric: taken as cosine; or ?metric=")
        if self._columns.id is None:
            notes.append(f"ids are row numbers, as ?id={ROW_NUMBERS} asks for")
        lists = [field.name for field in self._columns.payload if arrow.is_vector(field.type)]
        if lists:
            notes.append(f"lists of floats carried as payload, not translated: {name_some(lists)}")
        if self.left_out:
            notes.append(f"columns not carried over: {name_some(self.left_out)}")
        return notes

    def row_count(self) -> int:
        return self._files.count

    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        columns, done = self._all_columns(payloads=payloads), first
        for pieces in self._files.steps(columns, size, first, last):
            done += sum(map(len, pieces))
            yield self._batch(pieces, payloads=payloads, cursor=str(done))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        self.check_rows()
        for start in range(0, self._files.count, batch_size):
            yield self._id_column.slice(start, batch_size)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        self.check_rows()
        wanted = id_array(ids).tolist()
        rows = self.rows_of(wanted)
        missing = [i for i, row in zip(wanted, rows.tolist(), strict=True) if row < 0]
        refuse_missing(missing, self._place.uri)
        distinct, order = np.unique(rows, return_inverse=True)
        found = self._files.take(self._all_columns(), distinct)
        if not found:
            return VectorBatch(id_array([]), np.empty((0, self._dimension), np.float32), [])
        return self._batch(found, payloads=True, cursor=None).take(order.astype(np.intp))

    def fingerprint(self) -> str:
        return fingerprint_of(file.path for file in self._files.files)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        if any(field in file.partition for file in self.files):
            return None
        return self._late(field, value, batch_size)

    def _late(self, field: str, value: float, size: int) -> Iterator[VectorBatch]:
        rows = list(late_rows(self._files, field, arrow.REST if self._mark else None, value))
        late = np.concatenate([np.empty(0, np.int64), *rows])
        if (many := self.rows_numbered(late, size)) is not None:
            yield from many
            return
        for start in range(0, len(late), size):
            some = self._files.take(self._all_columns(), late[start : start + size])
            yield self._batch(some, payloads=True, cursor=None)

    def stamp(self) -> str | None:
        return None if self._stamp is None else f"{self.describe().fingerprint()} {self._stamp}"

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def files(self) -> list[DataFile]:
        """The files, in the order in which they are read."""
        return self._files.files

    @property
    def keys(self) -> list[str]:
        """The columns of ids, if there is one, and of vectors."""
        return self._columns.keys

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that no payload can hold, each with its type."""
        return self._payloads.left_out

    def rows_of(self, ids: Sequence[PointId]) -> NDArray[np.int64]:
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 if it is not there."""
        return self._id_column.rows(ids)

    def _all_columns(self, *, payloads: bool = True, vectors: bool = True) -> list[str]:
        keys = [k for k in self._columns.keys if vectors or k != self._columns.vector]
        return [*keys, *(self._payloads.columns if payloads else [])]

    def _batch(self, pieces: list[Piece], *, payloads: bool, cursor: str | None) -> VectorBatch:
        ids, vectors = [], []
        for piece in pieces:
            ids.append(arrow.ids_of(self._ids_of(piece)))
            column = piece.rows.column(self._columns.vector)
            vectors.append(arrow.vectors_in(column, ids[-1], self._dimension, piece.row))
        found = None
        if payloads and self._has_payloads:
            found = [payload for piece in pieces for payload in self._payloads_of(piece)]
        one = len(pieces) == 1
        return VectorBatch(
            ids[0] if one else np.concatenate(ids),
            vectors[0] if one else np.concatenate(vectors),
            found,
            cursor,
        )

    def _ids_of(self, piece: Piece) -> Any:
        if self._columns.id is None:
            return pa.array(piece.numbers())
        return arrow.plain_ids(piece.rows.column(self._columns.id), piece.row)

    def _payloads_of(self, piece: Piece) -> list[dict[str, Any]]:
        with reading(piece.file.path):
            payloads = self._payloads.read(piece.rows)
        there = set(piece.file.schema.names)
        added = {n: v for n, v in piece.file.partition.items() if n not in there}
        if added:
            for payload in payloads:
                payload.update(added)
        return payloads

    @cached_property
    def _has_payloads(self) -> bool:
        """False if no row could have one; making a dict a row takes as long as to read it."""
        return bool(self._payloads.columns) or any(file.partition for file in self.files)

    @cached_property
    def _dimension(self) -> int:
        name = self._columns.vector
        sizes = [arrow.fixed_size(file.schema.field(name).type) for file in self._files.files]
        for size in sizes:
            if size is not None:
                return size
        for pieces in self._files.steps([name], 1, 0):
            first = pieces[0].rows.column(name)[0].as_py()
            if first:
                return len(first)
            raise InputError(
                f"{pieces[0].row(0)} has no vector",
                remedy="Give each row a vector, or take the row out.",
            )
        raise InputError(
            f"{self._place.uri} has no rows, and its type does not tell the vectors' length",
            remedy="Name files with points.",
        )

    @cached_property
    def _id_column(self) -> IdColumn | RowNumbers:
        """All ids, read once."""
        if self._columns.id is None:
            return RowNumbers(self._files.count)
        steps = self._files.steps([self._columns.id], _IDS_A_STEP, 0)
        parts = [self._ids_of(piece) for pieces in steps for piece in pieces]
        kinds = dict.fromkeys(part.type for part in parts)
        if len(kinds) > 1:
            raise InputError(
                f"{self._place.uri} has ids of several types: {name_some(kinds)}",
                remedy="Write the files with one type of id.",
            )
        return IdColumn(pa.chunked_array(parts, next(iter(kinds), pa.int64())))

    def check_rows(self) -> None:
        """Refuse ids that come twice, which a migration would lose."""
        if self._repeated is None:
            return
        found, first, second = self._repeated
        raise InputError(
            f"{self._place.uri} has the id {found} twice: in {self._row_name(first)} and "
            f"{self._row_name(second)}",
            remedy="Take one of the rows out, or name a column of distinct ids as ?id=COLUMN.",
        )

    @cached_property
    def _repeated(self) -> tuple[PointId, int, int] | None:
        return self._id_column.first_repeated()

    def _row_name(self, row: int) -> str:
        file = next(f for f in self._files.files if row < f.first + f.rows)
        return f"{file.path} row {row - file.first}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")
