"""Parquet files as one table of rows, read a piece at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.connector import (
    IdArray,
    InputError,
    LocalPlace,
    TableMark,
    TargetSpec,
    VectorBatch,
    arrow,
    sync_path,
)
from vecmigrate_files.parquet.data_file import DataFile, Piece, in_groups, open_file, stamp_of
from vecmigrate_files.place import parquet_paths, partitions_of, reading

_ROWS_A_STEP = 4096


class ParquetFiles:
    """A file, or all of a folder in the order of their paths.

    Raises
    ------
    InputError
        If there is none, or one is not Parquet.
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


def target_schema(
    place: LocalPlace,
    spec: TargetSpec,
    settings: arrow.ColumnSettings,
    mark: TableMark,
    first: VectorBatch,
) -> Any:
    """Choose the columns: those of a Parquet source, then those that the first batch shows."""
    known = {field.name: field.type for field in settings.fields()}
    types: dict[str, Any] = {mark.id: None, mark.vector: None}
    if {settings.id, settings.vector} <= known.keys():
        renamed = {settings.id: mark.id, settings.vector: mark.vector}
        types = {renamed.get(name, name): type_ for name, type_ in known.items()}
    else:
        types.update({n: t for n, t in known.items() if n not in types})
    types[mark.id] = _id_type(first.ids, known.get(settings.id), place.uri)
    types[mark.vector] = pa.list_(pa.float32(), spec.dimension)
    types.pop(arrow.REST, None)
    fields = [pa.field(name, _writable(type_)) for name, type_ in types.items()]
    taken = {*types, arrow.REST}
    inferred = [f for f in arrow.infer_fields(first.each_payload()) if f.name not in taken]
    rest = pa.field(arrow.REST, pa.string())
    return pa.schema([*fields, *inferred, rest], metadata=mark.metadata())


def row_writer(place: LocalPlace, schema: Any, mark: TableMark) -> arrow.RowWriter:
    """Make the writer of a file's rows."""
    return arrow.RowWriter(schema, id_name=mark.id, vector_name=mark.vector, what=place.uri)


def _id_type(ids: IdArray, preferred: Any | None, what: object) -> Any:
    """Choose the type of a column that begins with these ids; ``preferred`` if of their kind."""
    found = arrow.id_column(ids, None, what).type
    if preferred is None or pa.types.is_dictionary(preferred):
        return found
    worded = not pa.types.is_integer(preferred)
    return preferred if worded == arrow.is_text(found) else found


def _writable(type_: Any) -> Any:
    """Return the type, without dictionaries inside of lists and structs."""
    return (
        arrow.json_type(type_)
        if pa.types.is_nested(type_) and "dictionary<" in str(type_)
        else type_
    )


GROUP_BYTES = 64 << 20
"""Vectors in a row group take as much, uncompressed."""

_ROWS = (1000, 100_000)


def group_rows(dimension: int) -> int:
    """Return the rows of a row group: 64 MiB of float32 vectors, 1,000 to 100,000 rows."""
    return min(max(_ROWS[0], GROUP_BYTES // (4 * dimension)), _ROWS[1])


def write_part(path: Path, schema: Any, batches: Iterable[Any], rows: int, vector: str) -> None:
    """Write a file, durable.

    Parameters
    ----------
    batches
        Arrow record batches with the columns of ``schema``, dictionaries decoded.
    rows
        In a row group.
    vector
        The column of vectors, which neither dictionaries nor statistics help.
    """
    others = [name for name in schema.names if name != vector]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=others,
        write_statistics=others,
        write_page_checksum=True,
    ) as writer:
        for group in _joined(batches, rows):
            writer.write_table(group.cast(schema), row_group_size=rows)
    sync_path(path)


def keep_rows(path: Path, schema: Any, mask: NDArray[Any], rows: int, vector: str) -> None:
    """Write a file again with the rows of ``mask``, in its place."""
    made = path.with_name(f".{path.name}")
    write_part(made, schema, rows_kept(path, mask, rows), rows, vector)
    made.replace(path)


def rows_kept(path: Path, mask: NDArray[Any], rows: int) -> Iterator[Any]:
    """Yield a file's rows of ``mask`` as Arrow record batches, ``rows`` of the file at a time."""
    done = 0
    with pq.ParquetFile(path) as file:
        for batch in in_groups(file, rows):
            yield batch.filter(pa.array(mask[done : done + batch.num_rows]))
            done += batch.num_rows


def _joined(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Yield Arrow tables of ``rows`` rows, the last one fewer."""
    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            table = pa.Table.from_batches(held)
            whole = count - count % rows
            for start in range(0, whole, rows):
                yield table.slice(start, rows)
            held, count = table.slice(whole).to_batches(), count % rows
    if count:
        yield pa.Table.from_batches(held)
