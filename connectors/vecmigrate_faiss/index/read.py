"""Opens an index file: its rows, and the recipe that makes one like it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path

import faiss

from vecmigrate.connector import InputError, MappedFile, Metric, told_as
from vecmigrate_faiss.index.base import (
    FAILURES,
    METRICS,
    FaissIndex,
    UnknownKindError,
    faiss_reason,
)
from vecmigrate_faiss.index.coded_rows import rows_of
from vecmigrate_faiss.index.kinds import READABLE, IndexSettings, notes_on, settings_of
from vecmigrate_faiss.index.rows import Rows

_METRICS: dict[int, Metric] = {
    number: metric for metric, number in METRICS.items() if metric is not Metric.COSINE
}


@dataclass(frozen=True, slots=True)
class Layout:
    """An opened index file."""

    rows: Rows
    settings: IndexSettings
    metric: Metric
    notes: tuple[str, ...]


def open_layout(path: Path) -> Layout:
    """Open an index file without loading its vectors.

    Raises
    ------
    InputError
        If it is not there, not a whole FAISS index, or of a kind or metric that cannot be read.
    """
    index = read_index(path)
    try:
        with reading(path):
            settings = settings_of(index)
    except UnknownKindError as error:
        raise InputError(
            f"{path} {error}, which is not supported", remedy=f"{READABLE}."
        ) from error
    metric = _METRICS.get(index.metric_type)
    if metric is None:
        raise InputError(
            f"{path} has the FAISS metric {_metric_name(index.metric_type)}",
            remedy="L2, inner product and L1 can be read.",
        )
    if metric is Metric.DOT and settings.index.normalizes:
        metric = Metric.COSINE
    with reading(path):
        rows = rows_of(index)
        rows.read_from(MappedFile(path))
        _check_end(path, rows)
        notes = notes_on(index)
    if settings.index.lossy:
        notes += (f"{settings.index.words} is lossy: its vectors come back changed",)
    return Layout(rows, settings, metric, notes)


def reading(path: Path) -> AbstractContextManager[None]:
    """Turn what FAISS says of a damaged file into an :class:`InputError`."""
    return told_as(
        InputError,
        f"{path} cannot be read as a FAISS index",
        "Check that faiss.write_index wrote it and that it was copied whole.",
        FAILURES,
        faiss_reason,
    )


def read_index(path: Path) -> FaissIndex:
    """Read an index file, memory-mapped; raises as :func:`open_layout`."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", remedy="Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", remedy="Name a FAISS index file."
        ) from error
    if magic.startswith(b"IB"):
        raise InputError(f"{path} is a binary FAISS index", remedy=f"{READABLE}.")
    with reading(path):
        if len(magic) < 4:
            raise RuntimeError("it is empty" if not magic else "it is too short")
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """An index in memory, which several threads may search."""

    index: FaissIndex
    rows: Rows


def load_index(path: Path, file: MappedFile) -> LoadedIndex:
    """Read the index that was opened at a path into memory.

    Raises
    ------
    InputError
        If it was written over meanwhile.
    """
    with reading(path):
        with file.reader() as opened:
            try:
                reader = faiss.PyCallbackIOReader(opened.read)
                index = faiss.read_index(reader, faiss.IO_FLAG_READ_ONLY)
            finally:
                file.check()
        return LoadedIndex(index, rows_of(index))


def _check_end(path: Path, rows: Rows) -> None:
    """Refuse a file that ends within its last id, which FAISS would complete with zeros."""
    last_id = rows.last_stored_id()
    if last_id is None:
        return
    with path.open("rb") as file:
        file.seek(-8, SEEK_END)
        if int.from_bytes(file.read(), "little", signed=True) != last_id:
            raise RuntimeError("it does not end with its last id")


def _metric_name(metric: int) -> str:
    names = (n for n in dir(faiss) if n.startswith("METRIC_") and getattr(faiss, n) == metric)
    return next(names, str(metric))
