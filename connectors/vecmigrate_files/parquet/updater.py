"""Changes points of Parquet files that vecmigrate wrote."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    Lease,
    LeaseFile,
    LocalPlace,
    MismatchError,
    PointId,
    Provenance,
    TableMark,
    Updater,
    VectorBatch,
    check_dimension,
    name_some,
    sync_path,
)
from vecmigrate_files.parquet.data_file import DataFile
from vecmigrate_files.parquet.files import group_rows, row_writer, rows_kept, write_part
from vecmigrate_files.parquet.source import ParquetSource
from vecmigrate_files.place import writing
from vecmigrate_files.spool import Spool

_DELETED = -1


class ParquetUpdater(Updater):
    """Collects changes, and writes the files that they concern anew at :meth:`finish`.

    Each file is replaced in one step, by one that has the changed points of its own, so that a
    reader has each point once. New points go to a file of their own, or into the only one.

    Raises
    ------
    MismatchError
        If vecmigrate did not write the files, or an update would empty a column.
    LockedError
        If another run changes them now, or, from any method, took them over.
    """

    def __init__(self, place: LocalPlace, provenance: Provenance | None) -> None:
        self._place = place
        ParquetSource(place.uri).close()  # raises what keeps it from being read
        self._lease = Lease(LeaseFile.beside(place.path), place.uri)
        with self._lease.claimed():
            self._open(provenance)

    def _open(self, provenance: Provenance | None) -> None:
        """Read what the files are, now that no other run changes them."""
        place = self._place
        self._source = ParquetSource(place.uri)
        self._dimension = self._source.describe().dimension
        schema = self._source.files[0].schema
        mark = TableMark.of(schema)
        if mark is None:
            raise MismatchError(
                f"{place.uri} was not written by vecmigrate", remedy="Migrate to a new target."
            )
        if self._source.keys != [mark.id, mark.vector]:
            raise MismatchError(
                f"{place.uri} names other columns than the files were written with",
                remedy=f"Write id={mark.id} and vector={mark.vector}, or leave both out.",
            )
        if self._source.left_out:
            raise MismatchError(
                f"{place.uri} has columns that an update would empty: "
                f"{name_some(self._source.left_out)}",
                remedy="Take them out, or migrate to a new target.",
            )
        self._mark = mark.model_copy(update={"provenance": provenance})
        self._schema = schema.with_metadata(self._mark.metadata())
        self._rows = row_writer(place, self._schema, self._mark)
        self._last: dict[PointId, int] = {}
        with writing(place.uri):
            # What a killed run left goes.
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._folder.mkdir()
            self._spool = Spool.make(self._folder / "changes.arrow", self._rows.schema)

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._dimension, self._place.uri)
        self._lease.check()
        with writing(self._place.uri):
            start = self._spool.rows
            self._spool.append(self._rows.rows(batch))
        self._last.update({i: start + row for row, i in enumerate(batch.ids.tolist())})

    def delete(self, ids: IdArray) -> None:
        self._last.update(dict.fromkeys(ids.tolist(), _DELETED))

    def finish(self) -> CollectionDescription:
        with writing(self._place.uri):
            if self._last:
                self._replace()
        self._let_go()
        with ParquetSource(self._place.uri) as source:
            return source.describe()

    def abort(self) -> None:
        self._let_go()

    @property
    def _folder(self) -> Path:
        return self._place.path.with_name(f".{self._place.path.name}.vecmigrate-update")

    def _replace(self) -> None:
        changed = list(self._last)
        rows = self._source.rows_of(changed)
        written = np.fromiter(self._last.values(), np.int64, len(changed))
        new = written[(rows < 0) & (written != _DELETED)]
        files = self._source.files
        # The first file says what the collection is: it is replaced first, and always.
        for file in files:
            inside = (rows >= file.first) & (rows < file.first + file.rows)
            if inside.any() or file is files[0]:
                kept = np.ones(file.rows, np.bool_)
                kept[rows[inside] - file.first] = False
                added = written[inside & (written != _DELETED)]
                if file.path == self._place.path:
                    added, new = np.concatenate([added, new]), new[:0]
                self._write(file.path, file, kept, added)
        if len(new):
            self._write(self._new_path(), None, np.empty(0, np.bool_), new)

    def _write(
        self, path: Path, old: DataFile | None, kept: NDArray[np.bool_], added: NDArray[np.int64]
    ) -> None:
        self._lease.check()
        made = self._folder / path.name
        rows = group_rows(self._dimension)
        write_part(made, self._schema, self._content(old, kept, added), rows, self._mark.vector)
        self._lease.check()
        made.replace(path)
        sync_path(path.parent)

    def _content(
        self, old: DataFile | None, kept: NDArray[np.bool_], added: NDArray[np.int64]
    ) -> Iterator[Any]:
        """Yield the rows of a file that stay, then those of the spool."""
        if old is not None:
            for batch in rows_kept(old.path, kept, group_rows(self._dimension)):
                table = pa.Table.from_batches([batch]).select(self._rows.schema.names)
                yield from table.cast(self._rows.schema).to_batches()
        start = 0
        added = np.sort(added)
        for batch in self._spool.batches():
            low, high = np.searchsorted(added, (start, start + batch.num_rows))
            if low < high:
                yield batch.take(pa.array(added[low:high] - start))
            start += batch.num_rows

    def _new_path(self) -> Path:
        taken = {path.name for path in self._place.path.iterdir()}
        number = len(self._source.files)
        while f"part-{number:05}.parquet" in taken:
            number += 1
        return self._place.path / f"part-{number:05}.parquet"

    def _let_go(self) -> None:
        self._spool.close()
        if self._lease.is_held:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lease.release()
