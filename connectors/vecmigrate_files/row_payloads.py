"""Payloads that belong to vectors by their row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate_files.data_file import Piece
from vecmigrate_files.discovery import SUFFIXES
from vecmigrate_files.faults import reading
from vecmigrate_files.parquet_files import ParquetFiles
from vecmigrate_files.payload_reading import PayloadReader


class RowPayloads(ABC):
    """A file with a payload for each row.

    Attributes
    ----------
    paths
        The files that hold them.
    fields
        Names that are known without reading a row.
    left_out
        Columns that no payload can hold.
    """

    paths: list[Path]
    fields: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @abstractmethod
    def count(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def head(self, rows: int) -> list[dict[str, Any]]:
        """Return the first ones."""

    @abstractmethod
    def batches(self, size: int, start: int) -> Iterator[list[dict[str, Any]]]:
        """Yield those from row ``start`` on, ``size`` at a time."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return those of rows, which ascend."""


class ParquetPayloads(RowPayloads):
    """A Parquet file whose columns are all payload."""

    def __init__(self, what: object, path: Path) -> None:
        self._files = ParquetFiles(what, path)
        self.paths = [file.path for file in self._files.files]
        fields = {field.name: field for file in self._files.files for field in file.schema}
        self._reader = PayloadReader(fields.values(), rest=False)
        self.fields, self.left_out = self._reader.fields, self._reader.left_out

    def count(self) -> int:
        return self._files.count

    def head(self, rows: int) -> list[dict[str, Any]]:
        return next(self.batches(rows, 0), [])

    def batches(self, size: int, start: int) -> Iterator[list[dict[str, Any]]]:
        for pieces in self._files.steps(self._reader.columns, size, start):
            yield self._read(pieces)

    def take(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        return self._read(self._files.take(self._reader.columns, rows))

    def _read(self, pieces: list[Piece]) -> list[dict[str, Any]]:
        found = []
        for piece in pieces:
            with reading(piece.file.path):
                found.extend(self._reader.read(piece.rows))
        return found


def is_parquet(path: Path) -> bool:
    return path.suffix in SUFFIXES
