"""Writes Parquet files in a folder beside the target, which gets its name when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vecmigrate.connector import (
    CollectionDescription,
    LocalPlace,
    MismatchError,
    StagedSink,
    Staging,
    TableMark,
    TargetSpec,
    VectorBatch,
    arrow,
    check_dimension,
    name_some,
    sync_path,
)
from vecmigrate_files.ids import last_rows
from vecmigrate_files.parquet.files import (
    group_rows,
    keep_rows,
    row_writer,
    target_schema,
    write_part,
)
from vecmigrate_files.parquet.source import ParquetSource
from vecmigrate_files.place import SUFFIXES, writing
from vecmigrate_files.spool import Checkpoint, Spool

GROUPS_A_PART = 16


class ParquetSink(StagedSink):
    """Spools what it is given until it is enough for a file; one file takes all there is.

    An id's earlier rows are taken out at :meth:`finish`.
    """

    def __init__(self, place: LocalPlace, spec: TargetSpec) -> None:
        place.check_metric(spec.metric)
        self._place, self._spec = place, spec
        given = spec.settings if spec.store == "parquet" else {}
        self._settings = arrow.ColumnSettings.parse(given, "the Parquet files")
        self._mark = TableMark.of_target(place.uri, self._settings, spec)
        self._one_file = place.path.suffix in SUFFIXES
        self._group = group_rows(spec.dimension)
        self.staging = Staging(place.uri, place.path, spec)
        self._parts = self._parts_at_last_checkpoint = 0
        self._spool: Spool | None = None
        self._schema: Any = None
        self._rows: arrow.RowWriter | None = None

    def begin(self, *, restart: bool) -> None:
        super().begin(restart=restart)
        with writing(self._place.uri):
            self._folder.mkdir()

    def go_back(self, token: str) -> None:
        at = Checkpoint.parse(token, self._place.uri)
        with writing(self._place.uri):
            self._folder.mkdir(exist_ok=True)
            complete = {self._part(number) for number in range(at.parts)}
            there = {path.name for path in self._folder.iterdir()}
            if complete - there:
                raise MismatchError(
                    f"{self._folder} has lost {name_some(sorted(complete - there))}",
                    remedy="Start over with --restart.",
                )
            for name in there - complete:
                (self._folder / name).unlink()
            self._parts = self._parts_at_last_checkpoint = at.parts
            if at.size:
                self._schema = pa.ipc.read_schema(pa.OSFile(str(self._schema_file)))
                path = self._spool_file(at.parts)
                self._spool = Spool.cut(path, rows=at.rows, size=at.size)
                self._rows = row_writer(self._place, self._schema, self._mark)

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._place.uri)
        if not len(batch):
            return
        self.staging.check()
        with writing(self._place.uri):
            rows, spool = self._opened(batch)
            spool.append(rows.rows(batch))
            if not self._one_file and spool.rows >= self._group * GROUPS_A_PART:
                self._complete_part(spool)

    def checkpoint(self) -> str:
        self.staging.check()
        with writing(self._place.uri):
            if self._spool is None:
                return Checkpoint().model_dump_json()
            self._spool.sync()
            sync_path(self._folder)
            sync_path(self.staging.path)
            # What a checkpoint before the last one needed, nobody comes back to.
            for number in range(self._parts_at_last_checkpoint):
                self._spool_file(number).unlink(missing_ok=True)
            self._parts_at_last_checkpoint = self._parts
            return Checkpoint(
                parts=self._parts, rows=self._spool.rows, size=self._spool.size
            ).model_dump_json()

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def finish(self) -> CollectionDescription:
        with writing(self._place.uri):
            empty = np.empty((0, self._spec.dimension), np.float32)
            _, spool = self._opened(VectorBatch(np.empty(0, np.int64), empty))
            if spool.rows or not self._parts:
                self._complete_part(spool)
            self._delete_superseded()
            self._note_as_of()
            sync_path(self._folder)
        made = self._folder / self._part(0) if self._one_file else self._folder
        self.close()
        self.staging.publish(made)
        with ParquetSource(self._place.uri) as source:
            return source.describe()

    @property
    def _folder(self) -> Path:
        return self.staging.path / "parts"

    @property
    def _schema_file(self) -> Path:
        return self.staging.path / "schema.arrow"

    def _spool_file(self, number: int) -> Path:
        return self.staging.path / f"spool-{number:05}.arrow"

    @staticmethod
    def _part(number: int) -> str:
        return f"part-{number:05}.parquet"

    def _opened(self, batch: VectorBatch) -> tuple[arrow.RowWriter, Spool]:
        """Choose the columns and begin the spool, if a batch is the first."""
        if self._rows is None or self._spool is None:
            self._schema = target_schema(self._place, self._spec, self._settings, self._mark, batch)
            self._schema_file.write_bytes(memoryview(self._schema.serialize()))
            sync_path(self._schema_file)
            self._rows = row_writer(self._place, self._schema, self._mark)
            self._spool = Spool.make(self._spool_file(self._parts), self._rows.schema)
        return self._rows, self._spool

    def _complete_part(self, spool: Spool) -> None:
        path = self._folder / self._part(self._parts)
        write_part(path, self._schema, spool.batches(), self._group, self._mark.vector)
        spool.close()
        self._parts += 1
        # The old one stays until no checkpoint needs it.
        self._spool = Spool.make(self._spool_file(self._parts), spool.schema)

    def _note_as_of(self) -> None:
        """Say in the first file, which tells what the collection is, as of when it is."""
        made = self._spec.provenance_as_of(self.as_of)
        if made == self._mark.provenance:
            return
        mark = self._mark.model_copy(update={"provenance": made})
        path = self._folder / self._part(0)
        kept = np.ones(pq.read_metadata(path).num_rows, np.bool_)
        schema = self._schema.with_metadata(mark.metadata())
        keep_rows(path, schema, kept, self._group, mark.vector)

    def _delete_superseded(self) -> None:
        """Leave each id's last row alone; all ids are in memory at once."""
        paths = sorted(self._folder.iterdir())
        chunks: list[Any] = []
        counts: list[int] = []
        for path in paths:
            ids = pq.read_table(path, columns=[self._mark.id])[self._mark.id]
            chunks.extend(arrow.plain_ids(chunk, lambda at: f"row {at}") for chunk in ids.chunks)
            counts.append(len(ids))
        mask = last_rows(pa.chunked_array(chunks or [pa.array([], pa.int64())]))
        if mask is None:
            return
        for path, kept in zip(paths, np.split(mask, np.cumsum(counts)[:-1]), strict=True):
            if not kept.all():
                keep_rows(path, self._schema, kept, self._group, self._mark.vector)
