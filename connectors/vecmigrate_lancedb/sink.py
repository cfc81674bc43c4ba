"""Writes a table in a folder beside the others, which gets its name when it is whole."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecmigrate.connector import (
    CollectionDescription,
    MismatchError,
    StagedSink,
    Staging,
    TargetSpec,
    VectorBatch,
    arrow,
    check_dimension,
)
from vecmigrate_lancedb.columns import Mark, Settings, infer_fields, mark_of, note_update
from vecmigrate_lancedb.engine import load, open_table, writing
from vecmigrate_lancedb.index import index_for, make_index
from vecmigrate_lancedb.place import Place
from vecmigrate_lancedb.source import DISTANCES, LanceSource, RowWriter

_NO_TABLE = "0"


class LanceSink(StagedSink):
    """Appends what it is given; an id's earlier rows go at :meth:`finish`.

    The payload columns are those of a LanceDB source, and those that the first batch shows.
    """

    def __init__(self, place: Place, spec: TargetSpec) -> None:
        load()
        place.check_metric(spec.metric)
        self._place, self._spec = place, spec
        given = spec.settings if spec.store == "lancedb" else {}
        self._settings = Settings.parse(given, "the LanceDB table")
        self._mark = Mark.of_target(place.uri, self._settings, spec, rest=arrow.REST)
        self._index = index_for(place, self._settings.index)
        self.staging = Staging(place.uri, place.path, spec, folder=place.staging)
        self._table: Any = None
        self._rows: RowWriter | None = None

    def begin(self, *, restart: bool) -> None:
        with writing(self._place.uri):
            self._place.database.mkdir(parents=True, exist_ok=True)
        super().begin(restart=restart)

    def go_back(self, token: str) -> None:
        """Take the table back to what it was at a checkpoint."""
        made = self._made
        with writing(self._place.uri):
            if token == _NO_TABLE:
                self.staging.clear()
                return
            table = open_table(made.parent, self._place.name) if made.is_dir() else None
            mark = mark_of(table.schema) if table is not None else None
            if table is None or mark is None or not go_back(table, token):
                raise MismatchError(
                    f"the checkpoint {token} of {self._place.uri} is not there any more",
                    remedy="Start over with --restart.",
                )
        self._table, self._rows = table, RowWriter(self._place, table.schema, mark)

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._place.uri)
        if not len(batch):
            return
        self.staging.check()
        rows = self._writer(batch).rows(batch)
        with writing(self._place.uri):
            self._table.add(rows)

    def checkpoint(self) -> str:
        if self._table is None:
            return _NO_TABLE
        self.staging.sync()
        return str(self._table.version)

    def finish(self) -> CollectionDescription:
        empty = np.empty((0, self._spec.dimension), np.float32)
        self._writer(VectorBatch(np.empty(0, np.int64), empty))
        mark = self._mark
        with writing(self._place.uri):
            delete_superseded(self._table, mark.id)
            compact(self._table)
            if self._table.count_rows():
                if self._index is not None:
                    distance = DISTANCES[self._spec.metric]
                    make_index(self._table, mark.vector, self._index, distance, self._place)
                self._table.create_index(mark.id, config=load("lancedb.index").BTree())
            made = self._spec.provenance_as_of(self.as_of)
            if made is not None and made != mark.provenance:
                note_update(self._table, mark.id, made)
        self.staging.sync()
        self.staging.publish(self._made)
        return LanceSource(self._place.uri).describe()

    @property
    def _made(self) -> Path:
        """The folder of the table until it has its name."""
        return self.staging.path / self._place.path.name

    def _writer(self, batch: VectorBatch) -> RowWriter:
        """Make the table, if it is not there yet, for points like these."""
        if self._rows is None:
            mark = self._mark
            taken = {mark.id, mark.vector, mark.rest}
            fields = [f for f in self._settings.fields() if f.name not in taken]
            taken.update(field.name for field in fields)
            id_type = pa.int64() if batch.ids.dtype == np.int64 else pa.string()
            schema = pa.schema(
                [
                    pa.field(mark.id, id_type),
                    pa.field(mark.vector, pa.list_(pa.float32(), self._spec.dimension)),
                    *fields,
                    *infer_fields(batch.each_payload(), taken),
                    pa.field(mark.rest, pa.string()),
                ],
                metadata=mark.metadata(),
            )
            with writing(self._place.uri):
                database = load().connect(str(self.staging.path))
                self._table = database.create_table(self._place.name, schema=schema)
            self._rows = RowWriter(self._place, schema, mark)
        return self._rows


_ROWS_A_STEP = 1000


def delete_superseded(table: Any, column: str) -> None:
    """Leave each id's last row alone.

    LanceDB numbers rows in the order of writing. Reads the ids, all at once, and no vectors.
    """
    rows = table.search().select([column]).with_row_id(True).to_arrow()
    ids = rows[column]
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    last = rows.group_by(column).aggregate([("_rowid", "max")])["_rowid_max"]
    old = rows["_rowid"].filter(pc.invert(pc.is_in(rows["_rowid"], value_set=last)))
    for start in range(0, len(old), _ROWS_A_STEP):
        listed = ", ".join(map(str, old.slice(start, _ROWS_A_STEP).to_pylist()))
        table.delete(f"_rowid IN ({listed})")


def compact(table: Any) -> None:
    """Join the small files of many writes and delete all older versions of a table that none reads.

    To be done before the table has an index: LanceDB joins small partitions of one that it has.
    """
    with warnings.catch_warnings():  # that readers of older versions would fail
        warnings.simplefilter("ignore", UserWarning)
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def go_back(table: Any, checkpoint: str) -> bool:
    """Make an older version of a table the latest one; False if it has never been.

    A version that :func:`compact` has deleted was followed by one with all of its points, which
    stays as it is: what is written again supersedes what is there.
    """
    if not (checkpoint.isascii() and checkpoint.isdecimal()):
        return False
    version = int(checkpoint)
    kept = {v["version"] for v in table.list_versions()}
    if version in kept:
        table.checkout(version)
        table.restore()
    return version in kept or version < table.version
