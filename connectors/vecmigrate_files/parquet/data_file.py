"""One Parquet file, and rows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.connector import InputError
from vecmigrate_files.place import Partition


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

    def is_as_opened(self) -> bool:
        """True unless another file has taken the name, or none is there."""
        try:
            return stamp_of(self.path) == self.stamp
        except OSError:
            return False

    def columns_among(self, names: Sequence[str]) -> list[str]:
        there = set(self.schema.names)
        return [name for name in names if name in there]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file.

    Attributes
    ----------
    at
        ``(n,)`` int64 numbers of the rows in the file.
    rows
        An Arrow record batch.
    """

    file: DataFile
    at: NDArray[np.int64]
    rows: Any

    def row(self, place: int) -> str:
        """Name a row to a user."""
        return f"{self.file.path} row {self.at[place]}"

    def numbers(self) -> NDArray[np.int64]:
        """Return ``(n,)`` int64 numbers of the rows among those of all files."""
        return self.file.first + self.at

    def part(self, start: int, length: int) -> Piece:
        """Return some of the rows, fewer at the end; no copy."""
        rows = self.rows.slice(start, length)
        return Piece(self.file, self.at[start : start + length], rows)

    def __len__(self) -> int:
        return len(self.at)


def open_file(file: DataFile) -> Any:
    """Open it again.

    Raises
    ------
    InputError
        If another has taken its name.
    """
    if not file.is_as_opened():
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
        All if None.
    """
    # One after another, since Arrow reads ahead all that it is asked for at once.
    for group in range(file.num_row_groups) if groups is None else groups:
        yield from file.iter_batches(size, row_groups=[group], columns=columns)


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from one that takes its name."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
