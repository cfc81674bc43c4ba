"""Writes an array of vectors, with its ids and payloads beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vecmigrate.connector import (
    CollectionDescription,
    MismatchError,
    StagedSink,
    Staging,
    TargetSpec,
    VectorBatch,
    Vectors,
    arrow,
    check_dimension,
    payload_json,
    sync_path,
)
from vecmigrate_files.ids import last_rows
from vecmigrate_files.npy.place import NpyMark, NpyPlace
from vecmigrate_files.npy.source import NpySource
from vecmigrate_files.place import writing
from vecmigrate_files.spool import Checkpoint, Spool

_IDS_A_STEP = 1 << 16


_BUFFER = 1 << 20
_ROWS_A_STEP = 1 << 14


class VectorFile:
    """Float32 rows behind a header that tells of none until :meth:`complete`.

    NumPy leaves room in a header for any number of rows.

    Parameters
    ----------
    rows
        Kept of what is there already; None begins a new file.

    Raises
    ------
    MismatchError
        If there are not as many rows.
    """

    def __init__(self, path: Path, dimension: int, rows: int | None) -> None:
        self.path = path
        self._dimension = dimension
        start = len(self._header(0))
        if rows is None:
            path.write_bytes(self._header(0))
        else:
            size = start + rows * dimension * 4
            if not path.exists() or path.stat().st_size < size:
                raise MismatchError(
                    f"{path} has lost what was written before the checkpoint",
                    remedy="Start over with --restart.",
                )
            os.truncate(path, size)
        self.rows = rows or 0
        self._file = path.open("ab", _BUFFER)

    def append(self, vectors: Vectors) -> None:
        """Add ``(n, dimension)`` rows."""
        self._file.write(vectors.data)
        self.rows += len(vectors)

    def sync(self) -> None:
        """Bring all rows to the disk."""
        self._file.flush()
        sync_path(self.path)

    def complete(self, mask: NDArray[np.bool_] | None) -> Path:
        """Return a whole file, durable: this one, or one with the rows of ``mask`` only."""
        self._file.flush()
        with self.path.open("r+b") as file:
            file.write(self._header(self.rows))
        if mask is None:
            sync_path(self.path)
            return self.path
        path = self.path.with_name(f"kept-{self.path.name}")
        rows = np.load(self.path, mmap_mode="r")
        with path.open("wb", _BUFFER) as file:
            file.write(self._header(int(mask.sum())))
            for start in range(0, len(rows), _ROWS_A_STEP):
                end = start + _ROWS_A_STEP
                file.write(np.ascontiguousarray(rows[start:end][mask[start:end]]).data)
        sync_path(path)
        return path

    def close(self) -> None:
        """Let go; may be called again."""
        with suppress(OSError):  # what a full disk did not take is not needed any more
            self._file.close()

    def _header(self, rows: int) -> bytes:
        text = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, self._dimension)}
        np.lib.format.write_array_header_1_0(text, described)
        return text.getvalue()


class NpySink(StagedSink):
    """Appends vectors to the array itself, and spools ids and payloads.

    The ids get a file if they are not 0, 1, 2 and so on, the payloads if there are any. An
    id's earlier rows are taken out at :meth:`finish`.
    """

    def __init__(self, place: NpyPlace, spec: TargetSpec) -> None:
        place.check_metric(spec.metric)
        place.check_target()
        self._place, self._spec = place, spec
        self.staging = Staging(place.uri, place.path, spec, beside=place.files())
        self._spool: Spool | None = None
        self._vectors: VectorFile | None = None

    def go_back(self, token: str) -> None:
        at = Checkpoint.parse(token, self._place.uri)
        with writing(self._place.uri):
            if at.size:
                self._spool = Spool.cut(self._spool_file, rows=at.rows, size=at.size)
                self._vectors = VectorFile(self._vector_file, self._spec.dimension, at.rows)

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._place.uri)
        if not len(batch):
            return
        self.staging.check()
        with writing(self._place.uri):
            spool, vectors = self._opened(batch)
            payloads = batch.each_payload()
            texts = [
                payload_json(p, batch.ids[row]) if p else None for row, p in enumerate(payloads)
            ]
            ids = arrow.id_column(batch.ids, spool.schema.field("id").type, self._place.uri)
            self._refuse_ids(ids)
            columns = [ids, pa.array(texts, pa.string())]
            spool.append(pa.record_batch(columns, schema=spool.schema))
            vectors.append(batch.vectors)

    def checkpoint(self) -> str:
        self.staging.check()
        with writing(self._place.uri):
            if self._spool is None or self._vectors is None:
                return Checkpoint().model_dump_json()
            self._spool.sync()
            self._vectors.sync()
            sync_path(self.staging.path)
            return Checkpoint(rows=self._spool.rows, size=self._spool.size).model_dump_json()

    def finish(self) -> CollectionDescription:
        with writing(self._place.uri):
            empty = np.empty((0, self._spec.dimension), np.float32)
            spool, vectors = self._opened(VectorBatch(np.empty(0, np.int64), empty))
            ids = self._ids(spool)
            mask = last_rows(ids)
            made = vectors.complete(mask)
            beside = self._write_beside(spool, ids if mask is None else ids.filter(mask), mask)
        self.close()
        self.staging.publish(made, beside)
        with NpySource(self._place.uri) as source:
            return source.describe()

    @property
    def _spool_file(self) -> Path:
        return self.staging.path / "rows.arrow"

    @property
    def _vector_file(self) -> Path:
        return self.staging.path / "vectors.npy"

    def _opened(self, batch: VectorBatch) -> tuple[Spool, VectorFile]:
        """Begin the files, for ids like these, if a batch is the first."""
        if self._spool is None or self._vectors is None:
            type_ = arrow.id_column(batch.ids, None, self._place.uri).type
            schema = pa.schema([("id", type_), ("payload", pa.string())])
            self._spool = Spool.make(self._spool_file, schema)
            self._vectors = VectorFile(self._vector_file, self._spec.dimension, None)
        return self._spool, self._vectors

    def close(self) -> None:
        for file in (self._spool, self._vectors):
            if file is not None:
                file.close()

    def _refuse_ids(self, ids: Any) -> None:
        if not arrow.is_text(ids.type):
            return
        ending = pc.ends_with(ids, "\0")
        if pc.any(ending).as_py():
            raise MismatchError(
                f"{self._place.uri} cannot hold the id {ids.filter(ending)[0].as_py()!r}: NumPy's "
                "texts lose a null character at the end",
                remedy="Choose another store.",
            )

    def _ids(self, spool: Spool) -> Any:
        """Return all ids as an Arrow chunked array, in memory."""
        # Copied, since a view would hold the mapping, payloads and all.
        chunks = [pa.concat_arrays([batch.column("id")]) for batch in spool.batches()]
        return pa.chunked_array(chunks, spool.schema.field("id").type)

    def _write_beside(
        self, spool: Spool, ids: Any, mask: NDArray[np.bool_] | None
    ) -> list[tuple[Path, Path]]:
        """Write ids, payloads and the companion; return each with the name it is to get."""
        folder, place = self.staging.path, self._place
        made: list[tuple[Path, Path]] = []
        numbered = pa.types.is_integer(ids.type) and bool(
            np.array_equal(ids.to_numpy(), np.arange(len(ids)))
        )
        has_ids = not numbered or place.option("ids") is not None
        if has_ids:
            _save_ids(folder / "ids.npy", ids)
            made.append((folder / "ids.npy", place.ids))
        has_payload = place.option("payload") is not None or any(
            batch.column("payload").null_count < batch.num_rows for batch in spool.batches()
        )
        if has_payload:
            with (folder / "payload.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line or '{}'}\n" for line in _kept(_lines(spool), mask))
            made.append((folder / "payload.jsonl", place.payload))
        mark = NpyMark(
            metric=self._spec.metric,
            text=self._spec.text_field,
            provenance=self._spec.provenance_as_of(self.as_of),
            ids=place.ids.name if has_ids else None,
            payload=place.payload.name if has_payload else None,
        )
        (folder / "companion.json").write_text(mark.model_dump_json(indent=2) + "\n")
        made.append((folder / "companion.json", place.companion))
        for path, _ in made:
            sync_path(path)
        return made


def _lines(spool: Spool) -> Iterator[str | None]:
    for batch in spool.batches():
        yield from batch.column("payload").to_pylist()


def _kept(lines: Iterator[str | None], mask: NDArray[np.bool_] | None) -> Iterator[str | None]:
    return lines if mask is None else compress(lines, mask)


def _save_ids(path: Path, ids: Any) -> None:
    """Write ids as int64, uint64, or text as wide as the longest."""
    if pa.types.is_integer(ids.type):
        np.save(path, ids.to_numpy())
        return
    width = max(pc.max(pc.utf8_length(ids)).as_py() or 1, 1)
    if not len(ids):
        np.save(path, np.empty(0, f"<U{width}"))
        return
    array = np.lib.format.open_memmap(path, mode="w+", dtype=f"<U{width}", shape=(len(ids),))
    for start in range(0, len(ids), _IDS_A_STEP):
        array[start : start + _IDS_A_STEP] = ids.slice(start, _IDS_A_STEP).to_pylist()
    array.flush()
