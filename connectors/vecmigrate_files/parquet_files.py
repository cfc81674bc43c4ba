"""Parquet files as one table of rows, read a piece at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.connector import InputError
from vecmigrate_files.data_file import DataFile, Piece, in_groups, open_file, stamp_of
from vecmigrate_files.discovery import parquet_paths, partitions_of
from vecmigrate_files.faults import reading

_ROWS_A_STEP = 4096


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
                file = DataFile(each, self.count, footer, schema, partition, stamp_of(each))
            if len(set(schema.names)) < len(schema.names):
                twice = next(n for n in schema.names if schema.names.count(n) > 1)
                raise InputError(
                    f"{each} has two columns {twice!r}", remedy="Give each a name of its own."
                )
            self.files.append(file)
            self.count += file.rows

    def steps(
        self, columns: Sequence[str], size: int, start: int, stop: int | None = None
    ) -> Iterator[list[Piece]]:
        """Yield all rows from ``start`` to ``stop``, ``size`` at a time, the last time fewer.

        Parameters
        ----------
        columns
            Names; one that a file lacks is not there in its pieces.
        """
        held: list[Piece] = []
        left = (self.count if stop is None else stop) - start
        missing = min(size, left)
        for piece in self._pieces(columns, size, start):
            done = 0
            while missing and done < len(piece):
                part = piece.part(done, missing)
                held.append(part)
                done += len(part)
                left -= len(part)
                missing -= len(part)
                if not missing:
                    yield held
                    held, missing = [], min(size, left)
            if not left:
                break
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
                    at = here[(here >= piece.at[0]) & (here <= piece.at[-1])]
                    if len(at):
                        taken = piece.rows.take(pa.array(at - piece.at[0]))
                        found.append(Piece(file, at, taken))
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
        with reading(file.path), open_file(file) as opened:
            for rows in in_groups(opened, size, range(group, last), file.columns_among(columns)):
                piece = Piece(file, np.arange(at, at + rows.num_rows), rows)
                at += rows.num_rows
                skipped = max(0, start - int(piece.at[0])) if len(piece) else 0
                if skipped < len(piece):
                    yield piece.part(skipped, len(piece))
