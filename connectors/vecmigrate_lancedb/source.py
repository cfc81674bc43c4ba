"""Reads a table, at the version that it had when it was opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    InputError,
    Metric,
    PointId,
    RowSource,
    StoreURI,
    UsageError,
    VectorBatch,
    Vectors,
    arrow,
    detect_id_kind,
    filtering,
    id_array,
    is_before,
    name_some,
    refuse_missing,
    steps,
)
from vecmigrate_lancedb.columns import (
    Mark,
    columns_of,
    condition,
    first_duplicate,
    ids_in,
    mark_of,
    parts,
    payload_reader,
    settings_of,
    vectors_in,
)
from vecmigrate_lancedb.engine import FAILURES, open_table, reading
from vecmigrate_lancedb.index import read_index
from vecmigrate_lancedb.place import Place

_PROBES = 20  # LanceDB's, if a reader asks for no other


class LanceSource(RowSource):
    """A table as it was when opened: what is written to it meanwhile is not seen."""

    fingerprint_tells_all: ClassVar[bool] = True
    thread_safe: ClassVar[bool] = True
    changes_told_by = "column of the field"

    def __init__(self, uri: StoreURI) -> None:
        self.where = uri
        self._place = Place.parse(uri)
        self._place.metric()
        self._table = open_pinned(self._place)
        schema = self._table.schema
        self._mark = mark_of(schema)
        self._columns = columns_of(self._place, schema, self._mark)
        self._payloads = payload_reader(schema, self._columns, self._mark)
        self._checked = False
        if self._place.option("text"):
            self.describe()

    def describe(self) -> CollectionDescription:
        return self._description

    @cached_property
    def _description(self) -> CollectionDescription:
        place, columns, mark = self._place, self._columns, self._mark
        with reading(place.uri):
            head = self._table.search().select([columns.id, *self._payloads.columns])
            rows = head.limit(_SAMPLE).to_arrow()
            sample = self._payloads.read(rows)
            found = read_index(self._table, columns.vector, columns.dimension)
            index, distance = found or (None, None)
            return place.described(
                mark,
                sample,
                self._payloads.fields,
                store="lancedb",
                index_type=str(index) if index else "no index",
                count=self._table.count_rows(),
                dimension=columns.dimension,
                metric=self._metric(distance),
                id_kind=detect_id_kind(ids_in(rows[columns.id], place.uri).tolist()),
                settings=settings_of(self._table.schema, columns, self._payloads, index),
                notes=tuple(self._notes(indexed=index is not None)),
            )

    def _metric(self, distance: str | None) -> Metric:
        """Return the metric that the URI asks for, or that the index or the mark has.

        Raises
        ------
        InputError
            If the index is by a distance that no collection of vecmigrate has.
        UsageError
            If the URI names another metric than the index has.
        """
        asked = self._place.metric()
        if distance is None:
            return asked or (self._mark.metric if self._mark else Metric.EUCLID)
        if distance not in _METRICS:
            raise InputError(
                f"{self._place.uri} has an index by {distance} distance",
                remedy="vecmigrate moves float vectors by l2, cosine or dot.",
            )
        if asked not in (None, _METRICS[distance]):
            raise UsageError(
                f"{self._place.uri} has an index by {distance}", remedy="Take metric= out."
            )
        return _METRICS[distance]

    def _notes(self, *, indexed: bool) -> list[str]:
        notes = []
        if not indexed:
            notes.append("no vector index: a search reads every vector")
            if self._mark is None and self._place.metric() is None:
                notes.append("no index tells the metric: taken as l2, LanceDB's own; or ?metric=")
        if self._payloads.left_out:
            notes.append(f"columns not carried over: {name_some(self._payloads.left_out)}")
        return notes

    def row_count(self) -> int:
        with reading(self._place.uri):
            return int(self._table.count_rows())

    def rows(self, first: int, last: int, size: int, *, payloads: bool) -> Iterator[VectorBatch]:
        columns = [self._columns.id, self._columns.vector]
        done = first
        for table in self._scan(columns + self._payloads.columns * payloads, size, first, last):
            done += table.num_rows
            yield self._batch(table, payloads=payloads, cursor=str(done))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        self.check_rows()
        for table in self._scan([self._columns.id], batch_size, 0, self.row_count()):
            yield ids_in(table[self._columns.id], self._place.uri)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        wanted = id_array(ids).tolist()
        name, type_ = self._columns.id, self._table.schema.field(self._columns.id).type
        kind = int if pa.types.is_integer(type_) else str
        possible = [i for i in dict.fromkeys(wanted) if isinstance(i, kind)]
        columns = [name, self._columns.vector, *self._payloads.columns]
        with reading(self._place.uri):
            found = [
                self._table.search().where(condition(name, part)).select(columns).to_arrow()
                for part in parts(possible)
            ]
            table = pa.concat_tables(found) if found else self._table.schema.empty_table()
        rows = {point_id: row for row, point_id in enumerate(table[name].to_pylist())}
        missing = [i for i in wanted if i not in rows]
        refuse_missing(missing, self._place.uri)
        order = pa.array([rows[i] for i in wanted], pa.int64())
        return self._batch(table.take(order), payloads=True, cursor=None)

    def search(self, queries: Vectors, k: int) -> list[IdArray]:
        found = self._found(queries, k, [self._columns.id])
        return [ids_in(table[self._columns.id], self._place.uri) for table in found]

    def nearest(self, queries: Vectors, k: int, *, where: str | None = None) -> list[VectorBatch]:
        if where is not None and not where.strip():
            raise UsageError(
                f"an empty filter of {self._place.uri}", remedy="Write an SQL condition, or none."
            )
        name, vector = self._columns.id, self._columns.vector
        with filtering(where, self._place.uri, lambda: self._found(queries[:1], k, [name])):
            found = self._found(queries, k, [name, vector, *self._payloads.columns], where)
        return [self._batch(table, payloads=True, cursor=None) for table in found]

    def _found(
        self, queries: Vectors, k: int, columns: list[str], where: str | None = None
    ) -> list[Any]:
        """Return the columns of each query's nearest rows, best first, as Arrow tables."""
        if not self.describe().count:
            return [self._table.schema.empty_table() for _ in queries]
        distance = DISTANCES[self.describe().metric]
        found = []
        # A condition can make LanceDB panic, which is no exception of Python's usual kinds.
        with reading(self._place.uri, FAILURES if where is None else (Exception,)):
            for query in queries:
                search = self._table.search(query, vector_column_name=self._columns.vector)
                search = search.distance_type(distance).limit(k).select([*columns, "_distance"])
                if where is not None:
                    search = search.where(where, prefilter=True)
                found.append(search.to_arrow())
        return found

    def search_parameter(self) -> str | None:
        if self.describe().index_type == "no index":
            return None
        return f"nprobes or refine_factor of a query (now {_PROBES} and none)"

    def fingerprint(self) -> str:
        """Hash the version and when it was made: a table made anew counts from 1 again."""
        with reading(self._place.uri):
            version = self._table.version
            made = next(v for v in self._table.list_versions() if v["version"] == version)
        return hashlib.blake2b(
            f"{version} {made['timestamp'].isoformat()}".encode(), digest_size=16
        ).hexdigest()

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        rest = self._mark.rest if self._mark else None
        names = [name for name in (field, rest) if name and name in self._payloads.columns]
        return self._late(field, names, value, batch_size) if names else None

    def _late(self, field: str, names: list[str], value: float, size: int) -> Iterator[VectorBatch]:
        """Yield the points whose field is late, by reading its column and no vector."""
        schema, rest = self._table.schema, self._mark.rest if self._mark else None
        reader = arrow.PayloadReader(map(schema.field, names), rest=rest)
        late: list[PointId] = []
        rows: list[int] = []
        columns, done = [self._columns.id, *names], 0
        for table in self._scan(columns, _FIELDS_A_STEP, 0, self.row_count()):
            ids = ids_in(table[self._columns.id], self._place.uri).tolist()
            fields = [payload.get(field) for payload in reader.read(table)]
            found = [at for at, told in enumerate(fields) if not is_before(told, value)]
            rows += [done + at for at in found]
            late += [ids[at] for at in found]
            done += len(ids)
        if (many := self.rows_numbered(np.array(rows, np.int64), size)) is not None:
            yield from many
            return
        for start in range(0, len(late), size):
            yield self.fetch(late[start : start + size])

    def stamp(self) -> str | None:
        # What another vector or id column is read from is among the settings.
        return f"{self.describe().fingerprint()} {self.fingerprint()}"

    def close(self) -> None:
        """Nothing is held open."""

    def _scan(self, columns: list[str], size: int, first: int, last: int) -> Iterator[Any]:
        """Yield rows in the table's order as Arrow tables of ``size`` rows, the last one fewer."""
        # One query a batch: a scan of all reads ahead as far as 2 GB, however small its batches.
        with reading(self._place.uri):
            for start, stop in steps(first, last, size):
                query = self._table.search().select(columns).offset(start)
                yield query.limit(stop - start).to_arrow()

    def _batch(self, table: Any, *, payloads: bool, cursor: str | None) -> VectorBatch:
        ids = ids_in(table[self._columns.id], self._place.uri)
        vectors = vectors_in(
            table[self._columns.vector], ids, self._columns.dimension, self._place.uri
        )
        return VectorBatch(ids, vectors, self._payloads.read(table) if payloads else None, cursor)

    def check_rows(self) -> None:
        """Refuse ids that come twice, which LanceDB does not mind and a migration would lose."""
        if self._checked:
            return
        with reading(self._place.uri):
            column = self._table.search().select([self._columns.id]).to_arrow()[self._columns.id]
            twice = first_duplicate(column)
        if twice is not None:
            raise InputError(
                f"{self._place.uri} has the id {twice} twice",
                remedy="Delete one of the rows, or name a column of distinct ids as ?id=COLUMN.",
            )
        self._checked = True


def open_pinned(place: Place) -> Any:
    """Open a table at its latest version, to stay there.

    Raises
    ------
    InputError
        If it is not there, or is unfinished.
    """
    place.refuse_unfinished()
    if not place.path.is_dir():
        raise InputError(
            f"{place.uri} is not there",
            remedy=f"Name a table of a LanceDB database, a folder {place.path.name} on the disk.",
        )
    with reading(place.uri):
        table = open_table(place.database, place.name)
        table.checkout(table.version)
        return table


class RowWriter:
    """Makes Arrow tables of batches, with the schema of a table that ``mark`` describes."""

    def __init__(self, place: Place, schema: Any, mark: Mark) -> None:
        self._schema = schema
        self._rows = arrow.RowWriter(
            schema, id_name=mark.id, vector_name=mark.vector, rest=mark.rest, what=place.uri
        )

    def rows(self, batch: VectorBatch) -> Any:
        """Return an Arrow table; see :meth:`arrow.RowWriter.rows`."""
        return pa.Table.from_batches([self._rows.rows(batch)]).cast(self._schema)


DISTANCES = {Metric.COSINE: "cosine", Metric.DOT: "dot", Metric.EUCLID: "l2"}
"""LanceDB's names of the metrics."""

_METRICS = {distance: metric for metric, distance in DISTANCES.items()}
_SAMPLE = 100
_FIELDS_A_STEP = 1 << 16
