"""Parquet sidecars: flat records keyed by an integer column.

Values become JSON's as in any other store; nulls stay nulls. Columns of a type that JSON lacks
(bytes, durations, maps) are refused by name.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vecmigrate.connector import InputError, WriteError, arrow, told_as
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.sidecars.base import DEFAULT_KEY, Record, Sidecar

_REWINDS_BEFORE_SPILL = 2


class ParquetSidecar(Sidecar):
    """A Parquet file, read forward; if asked for in another order, from a temporary copy.

    Parameters
    ----------
    key
        The column that holds the id; None for ``id``.

    Raises
    ------
    InputError
        If the file is not Parquet, has no such column, or one that has no form in JSON.
    """

    def __init__(self, path: Path, key: str | None) -> None:
        super().__init__(path)
        self._key = key or DEFAULT_KEY
        with self._reading():
            self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        arrow.check_column(
            path, schema, self._key, "id", pa.types.is_integer, "64-bit integers, as FAISS ids are"
        )
        for field in schema:
            if arrow.json_type(field.type) is None:
                raise InputError(
                    f"{path}: the column {field.name!r} holds {field.type}, which JSON lacks",
                    remedy="Leave the column out or turn it into text.",
                )
        fields = (field for field in schema if field.name != self._key)
        self._payload_reader = arrow.PayloadReader(fields, nulls=True)
        self._table: IdTable | None = None
        self._rows: ParquetRows = ForwardRows(self._file)

    def sample(self, limit: int) -> list[Record]:
        total = min(limit, self._file.metadata.num_rows)
        with self._reading():
            part = self._rows.take(np.arange(total, dtype=np.int64))
            ids = [i for batch in part for i in batch.column(self._key).to_pylist()]
            return [Record(i, i, p) for i, p in zip(ids, self._payloads(part), strict=True)]

    def lookup(self, faiss_ids: Int64s) -> Sequence[Record | None]:
        if self._table is None:
            self._table = self._read_keys()
        found = self._table.find(faiss_ids)
        rows, places = np.unique(found[found >= 0], return_inverse=True)
        if isinstance(self._rows, ForwardRows) and self._rows.rewinds >= _REWINDS_BEFORE_SPILL:
            with self._reading():
                self._rows = SpilledRows(self._rows)
        with self._reading():
            payloads = self._payloads(self._rows.take(rows))
        records: list[Record | None] = [None] * len(faiss_ids)
        for at, place in zip(np.flatnonzero(found >= 0).tolist(), places.tolist(), strict=True):
            faiss_id = int(faiss_ids[at])
            records[at] = Record(faiss_id, faiss_id, payloads[place])
        return records

    def close(self) -> None:
        self._rows.close()
        self._file.close()

    def _read_keys(self) -> IdTable:
        with self._reading():
            column = self._file.read(columns=[self._key]).column(self._key)
            if column.null_count:
                raise InputError(
                    f"{self.path}: the column {self._key!r} has {column.null_count} nulls",
                    remedy="Give each record the id of its point.",
                )
            table = IdTable(column.cast(pa.int64()).to_numpy())
        self.refuse_repeated(table, self._key)
        return table

    def _payloads(self, batches: Sequence[Any]) -> list[dict[str, Any]]:
        return [payload for batch in batches for payload in self._payload_reader.read(batch)]

    def _reading(self) -> AbstractContextManager[None]:
        return told_as(
            InputError,
            f"{self.path} cannot be read as Parquet",
            "Check that the file is whole and that its values have a form in JSON.",
            (pa.ArrowException, OSError, ValueError),
        )


_BATCH_ROWS = 4096


class ParquetRows(ABC):
    """Rows found by the record batch that holds them."""

    def take(self, rows: Int64s) -> list[Any]:
        """Return record batches with ``rows``, which ascend."""
        parts = []
        done = 0
        while done < len(rows):
            start, batch = self.batch_with(int(rows[done]))
            end = int(np.searchsorted(rows, start + batch.num_rows))
            parts.append(batch.take(pa.array(rows[done:end] - start)))
            done = end
        return parts

    @abstractmethod
    def batch_with(self, row: int) -> tuple[int, Any]:
        """Return the record batch that holds ``row``, and the number of its first row."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held."""


class ForwardRows(ParquetRows):
    """Rows decoded as they come; each step back decodes a row group again.

    Attributes
    ----------
    rewinds
        Steps back so far.
    """

    def __init__(self, file: pq.ParquetFile) -> None:
        self.rewinds = 0
        groups = range(file.num_row_groups)
        sizes = [file.metadata.row_group(group).num_rows for group in groups]
        self._bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self._file = file
        self._batches: Iterator[Any] = iter(())
        self._start = 0
        self._batch: Any = None

    def batch_with(self, row: int) -> tuple[int, Any]:
        group = int(np.searchsorted(self._bounds, row, side="right")) - 1
        back = self._batch is not None and row < self._start
        if self._batch is None or back or self._bounds[group] > self._end():
            self.rewinds += back
            self._batches = self.read(group)
            self._start, self._batch = int(self._bounds[group]), next(self._batches)
        while row >= self._end():
            self._start, self._batch = self._end(), next(self._batches)
        return self._start, self._batch

    def read(self, group: int = 0) -> Iterator[Any]:
        """Yield the record batches from a row group on, in types that IPC can take."""
        groups = list(range(group, self._file.num_row_groups))
        for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=groups):
            columns = [
                c.dictionary_decode() if pa.types.is_dictionary(c.type) else c
                for c in batch.columns
            ]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def close(self) -> None:
        self._batches, self._batch = iter(()), None

    def _end(self) -> int:
        return self._start + int(self._batch.num_rows)


class SpilledRows(ParquetRows):
    """Rows in a memory-mapped temporary file, uncompressed: any order costs the same.

    Raises
    ------
    WriteError
        If the temporary directory has no room for them.
    """

    def __init__(self, rows: ForwardRows) -> None:
        sizes = []
        batches = rows.read()
        first = next(batches)
        full = f"{tempfile.gettempdir()} cannot take a copy of the Parquet sidecar"
        remedy = "Set TMPDIR to a larger disk, or use a JSONL sidecar."
        with (
            told_as(WriteError, full, remedy, (OSError,)),
            tempfile.NamedTemporaryFile(prefix="vecmigrate-", suffix=".arrow") as file,
        ):
            with pa.ipc.new_file(file.name, first.schema) as writer:
                for batch in chain([first], batches):
                    writer.write_batch(batch)
                    sizes.append(batch.num_rows)
            self._mapped = pa.memory_map(file.name)
        self._file = pa.ipc.open_file(self._mapped)
        self._bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def batch_with(self, row: int) -> tuple[int, Any]:
        number = int(np.searchsorted(self._bounds, row, side="right")) - 1
        return int(self._bounds[number]), self._file.get_batch(number)

    def close(self) -> None:
        self._mapped.close()
