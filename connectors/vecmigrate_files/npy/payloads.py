"""Payloads that belong to vectors by their row."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import InputError, arrow, told_as
from vecmigrate_files.parquet.data_file import Piece
from vecmigrate_files.parquet.files import ParquetFiles
from vecmigrate_files.place import SUFFIXES, reading


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
        self._reader = arrow.PayloadReader(fields.values())
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


_READ = 1 << 24
_BOM = b"\xef\xbb\xbf"


class JsonLines(RowPayloads):
    """Holds if each line begins, 8 bytes a line, once more than the first are asked for."""

    def __init__(self, what: object, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{what}: {path} is not there", remedy="Name a file of JSON lines.")
        self.paths = [path]
        self.fields = ()
        self._path = path

    def count(self) -> int:
        return len(self._bounds) - 1

    def head(self, rows: int) -> list[dict[str, Any]]:
        with reading(self._path), self._path.open("rb") as file:
            lines = list(islice(file, rows))
        if lines:
            lines[0] = lines[0].removeprefix(_BOM)
        return [self._payload(line, row) for row, line in enumerate(lines)]

    def batches(self, size: int, start: int) -> Iterator[list[dict[str, Any]]]:
        for first in range(start, self.count(), size):
            yield self._between(first, min(first + size, self.count()))

    def take(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        found = []
        with reading(self._path), self._path.open("rb") as file:
            for row in rows.tolist():
                file.seek(self._bounds[row])
                found.append(self._payload(file.readline(), row))
        return found

    def _between(self, first: int, end: int) -> list[dict[str, Any]]:
        start, stop = self._bounds[first], self._bounds[end]
        with reading(self._path), self._path.open("rb") as file:
            file.seek(start)
            lines = file.read(stop - start).split(b"\n")[: end - first]
        if len(lines) < end - first:
            raise InputError(f"{self._path} has become shorter", remedy="Run again.")
        return [self._payload(line, first + at) for at, line in enumerate(lines)]

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """Where each line begins, and the end of the last one."""
        with reading(self._path), self._path.open("rb") as file:
            start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
            file.seek(0)
            ends, done = [np.array([start], np.int64)], 0
            while text := file.read(_READ):
                ends.append(np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + done + 1)
                done += len(text)
        bounds = np.concatenate(ends)
        return bounds if bounds[-1] == max(done, start) else np.append(bounds, done)

    def _payload(self, line: bytes, row: int) -> dict[str, Any]:
        wrong = f"{self._path} row {row} is not a JSON object"
        remedy = "Write one JSON object a line, a line for each vector."
        with told_as(InputError, wrong, remedy, (ValueError, RecursionError)):
            payload = json.loads(line)
            if not isinstance(payload, dict):
                raise ValueError(f"it is a {type(payload).__name__}")
        return payload
