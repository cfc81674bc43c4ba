"""Parquet files as one table of rows, read a piece at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.connector import InputError
from vecmigrate_files.discovery import Partition, parquet_paths, partitions_of
from vecmigrate_files.faults import reading

_ROWS_A_STEP = 4096


@dataclass(frozen=True)
class DataFile:
    """A Parquet file, known by its footer.

    Attributes
    ----------
    first
        Number of its first row among the rows of all files.
    partition
        Fields that its folders give to each row.
    stamp
        What tells that another file has taken its name.
    """

    path: Path
    first: int
    footer: Any
    schema: Any
    partition: Partition
    stamp: tuple[int, int, int]

    @property
    def rows(self) -> int:
        return int(self.footer.num_rows)

    @cached_property
    def bounds(self) -> list[int]:
        """Number of each row group's first row in the file, and of the row after the last."""
        sizes = [self.footer.row_group(g).num_rows for g in range(self.footer.num_row_groups)]
        return [0, *np.cumsum(sizes, dtype=np.int64).tolist()]

    def columns_among(self, names: Sequence[str]) -> list[str]:
        there = set(self.schema.names)
        return [name for name in names if name in there]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file.

    Attributes
    ----------
    first
        Number of the first row in the file.
    rows
        An Arrow record batch.
    """

    file: DataFile
    first: int
    rows: Any

    def row(self, at: int) -> str:
        """Name a row to a user."""
        return f"{self.file.path} row {self.first + at}"

    def numbers(self) -> NDArray[np.int64]:
        """Return ``(n,)`` int64 numbers of the rows among those of all files."""
        start = self.file.first + self.first
        return np.arange(start, start + len(self), dtype=np.int64)

    def __len__(self) -> int:
        return int(self.rows.num_rows)


class ParquetFiles:
    """A file, or all of a folder in the order of their paths.

    Raises
    ------
    InputError
        Where there is none, or one is not Parquet.
    """

    def __init__(self, what: object, path: Path) -> None:
        paths = parquet_paths(what, path)
        partitions = partitions_of(path, paths)
        self.files: list[DataFile] = []
        self.count = 0
        for each, partition in zip(paths, partitions, strict=True):
            with reading(each), pq.ParquetFile(each) as opened:
                footer, schema = opened.metadata, opened.schema_arrow
                file = DataFile(each, self.count, footer, schema, partition, _stamp(each))
            if len(set(schema.names)) < len(schema.names):
                twice = next(n for n in schema.names if schema.names.count(n) > 1)
                raise InputError(
                    f"{each} has two columns {twice!r}", remedy="Give each a name of its own."
                )
            self.files.append(file)
            self.count += file.rows

    def steps(self, columns: Sequence[str], size: int, start: int) -> Iterator[list[Piece]]:
        """Yield all rows from ``start`` on, ``size`` at a time, the last time fewer.

        Parameters
        ----------
        columns
            Names; one that a file lacks is not there in its pieces. Each file has one at least.
        """
        held: list[Piece] = []
        missing = size
        for piece in self._pieces(columns, size, start):
            done = 0
            while done < len(piece):
                part = piece.rows.slice(done, missing)
                held.append(Piece(piece.file, piece.first + done, part))
                done += part.num_rows
                missing -= part.num_rows
                if not missing:
                    yield held
                    held, missing = [], size
        if held:
            yield held

    def take(self, columns: Sequence[str], rows: NDArray[np.int64]) -> list[Piece]:
        """Return the rows of these numbers, which ascend; no other row group is read."""
        found: list[Piece] = []
        for file in self.files:
            low, high = np.searchsorted(rows, (file.first, file.first + file.rows))
            if low == high:
                continue
            wanted = rows[low:high] - file.first
            groups = np.searchsorted(file.bounds, wanted, side="right") - 1
            for group in np.unique(groups).tolist():
                end = file.bounds[group + 1]
                first = file.bounds[group]
                here = wanted[groups == group]
                for piece in self._pieces_of(file, columns, _ROWS_A_STEP, first, end):
                    inside = (here >= piece.first) & (here < piece.first + len(piece))
                    if inside.any():
                        at = pa.array(here[inside] - piece.first)
                        found.append(Piece(file, piece.first, piece.rows.take(at)))
        return found

    def _pieces(self, columns: Sequence[str], size: int, start: int) -> Iterator[Piece]:
        for file in self.files:
            if start < file.first + file.rows:
                yield from self._pieces_of(file, columns, size, max(0, start - file.first))

    def _pieces_of(
        self,
        file: DataFile,
        columns: Sequence[str],
        size: int,
        start: int,
        end: int | None = None,
    ) -> Iterator[Piece]:
        """Yield a file's rows; ``end`` is where a row group ends."""
        group = bisect_right(file.bounds, start) - 1
        last = len(file.bounds) - 1 if end is None else file.bounds.index(end)
        at = file.bounds[group]
        with reading(file.path), _open(file) as opened:
            for rows in in_groups(opened, size, range(group, last), file.columns_among(columns)):
                skipped = min(max(0, start - at), rows.num_rows)
                if skipped < rows.num_rows:
                    yield Piece(file, at + skipped, rows.slice(skipped))
                at += rows.num_rows


def _open(file: DataFile) -> Any:
    if _stamp(file.path) != file.stamp:
        raise InputError(
            f"{file.path} has changed since it was opened", remedy="Run again when it is at rest."
        )
    return pq.ParquetFile(file.path, metadata=file.footer, page_checksum_verification=True)


def in_groups(
    file: Any, size: int, groups: range | None = None, columns: Sequence[str] | None = None
) -> Iterator[Any]:
    """Yield record batches of an open Parquet file's row groups, with one group in memory.

    Parameters
    ----------
    groups, columns
        All where None.
    """
    # One after another, since Arrow reads ahead all that it is asked for at once.
    for group in range(file.num_row_groups) if groups is None else groups:
        yield from file.iter_batches(size, row_groups=[group], columns=columns)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
