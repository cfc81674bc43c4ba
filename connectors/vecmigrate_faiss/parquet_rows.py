"""Rows of a Parquet file by their numbers, in memory that does not grow with the file."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vecmigrate.connector import WriteError
from vecmigrate_faiss.lookup import Int64s

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
        """Yield the record batches from a row group on, in types that JSON and IPC can take."""
        groups = list(range(group, self._file.num_row_groups))
        for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=groups):
            columns = [_simplified(column) for column in batch.columns]
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
        Where the temporary directory has no room for them.
    """

    def __init__(self, rows: ForwardRows) -> None:
        sizes = []
        batches = rows.read()
        first = next(batches)
        try:
            with tempfile.NamedTemporaryFile(prefix="vecmigrate-", suffix=".arrow") as file:
                with pa.ipc.new_file(file.name, first.schema) as writer:
                    for batch in chain([first], batches):
                        writer.write_batch(batch)
                        sizes.append(batch.num_rows)
                self._mapped = pa.memory_map(file.name)
        except OSError as error:
            raise WriteError(
                f"{tempfile.gettempdir()} cannot take a copy of the Parquet sidecar: {error}",
                remedy="Set TMPDIR to a larger disk, or use a JSONL sidecar.",
            ) from error
        self._file = pa.ipc.open_file(self._mapped)
        self._bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def batch_with(self, row: int) -> tuple[int, Any]:
        number = int(np.searchsorted(self._bounds, row, side="right")) - 1
        return int(self._bounds[number]), self._file.get_batch(number)

    def close(self) -> None:
        self._mapped.close()


def _simplified(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", tz=column.type.tz))
    if pa.types.is_time64(column.type) and column.type.unit == "ns":
        column = column.cast(pa.time64("us"))
    return column
