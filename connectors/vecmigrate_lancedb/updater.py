"""Changes points of a table that vecmigrate wrote, in place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    Lease,
    LeaseFile,
    MismatchError,
    Provenance,
    Remnant,
    Updater,
    VectorBatch,
    name_some,
)
from vecmigrate_lancedb.columns import (
    columns_of,
    condition,
    mark_of,
    note_update,
    parts,
    payload_reader,
)
from vecmigrate_lancedb.engine import open_table, reading, writing
from vecmigrate_lancedb.place import SUFFIX, Place
from vecmigrate_lancedb.source import LanceSource, RowWriter


class LanceUpdater(Updater):
    """Each call is a version of the table, so that a reader has all of it or nothing.

    The vector index is left to its owner: LanceDB searches rows that are not in it yet beside it,
    and its ``optimize()``, which takes them in, may change how many partitions there are.

    Raises
    ------
    MismatchError
        If vecmigrate did not write the table, or an update would empty a column.
    LockedError
        If another run changes it now, or, from any method, took it over.
    """

    def __init__(self, place: Place, provenance: Provenance | None) -> None:
        LanceSource(place.uri).close()  # raises what keeps it from being read
        self._place, self._provenance, self._noted = place, provenance, False
        self._lease = Lease(LeaseFile.beside(place.path), place.uri)
        with self._lease.claimed():
            self._open(place)

    def _open(self, place: Place) -> None:
        """Open the table, now that no other run changes it."""
        with reading(place.uri):
            self._table = open_table(place.database, place.name)
            schema = self._table.schema
        mark = mark_of(schema)
        if mark is None:
            raise MismatchError(
                f"{place.uri} was not written by vecmigrate", remedy="Migrate to a new table."
            )
        lost = payload_reader(schema, columns_of(place, schema, mark), mark).left_out
        if lost:
            raise MismatchError(
                f"{place.uri} has columns that an update would empty: {name_some(lost)}",
                remedy="Drop them, or migrate to a new table.",
            )
        self._id, self._integers = mark.id, pa.types.is_integer(schema.field(mark.id).type)
        self._rows = RowWriter(place, schema, mark)

    def upsert(self, batch: VectorBatch) -> None:
        _, from_the_end = np.unique(batch.ids[::-1].astype(str), return_index=True)
        rows = self._rows.rows(batch.take(np.sort(len(batch) - 1 - from_the_end)))
        self._note()
        self._lease.check()
        with writing(self._place.uri):
            merge = self._table.merge_insert(self._id).when_matched_update_all()
            merge.when_not_matched_insert_all().execute(rows)

    def delete(self, ids: IdArray) -> None:
        kind = int if self._integers else str
        possible = [i for i in ids.tolist() if isinstance(i, kind)]
        if not possible:
            return
        self._note()
        with writing(self._place.uri):
            for part in parts(possible):
                self._lease.check()
                self._table.delete(condition(self._id, part))

    def flush(self) -> bool:
        return True

    def finish(self) -> CollectionDescription:
        self._note()
        self._lease.check()
        self._lease.release()
        return LanceSource(self._place.uri).describe()

    def abort(self) -> None:
        """Nothing is held back but the lease."""
        self._lease.release()

    def _note(self) -> None:
        """Say what the table is to be, before the first change: a killed update is noticed."""
        if not self._noted and self._provenance is not None:
            self._lease.check()
            with writing(self._place.uri):
                note_update(self._table, self._id, self._provenance)
        self._noted = True


def what_is_left(place: Place) -> tuple[Remnant, ...]:
    """Name what may hold deleted rows: data files that have them as marked, and earlier versions.

    LanceDB writes a data file anew once a tenth of its rows is deleted, and not before, whatever
    versions are dropped.
    """
    with reading(place.uri):
        table = open_table(place.database, place.name)
        kept, latest = len(table.list_versions()) - 1, table.version
        mark = mark_of(table.schema)
    left = []
    if any((place.database / f"{place.name}{SUFFIX}" / "_deletions").glob("*")):
        key = "id" if mark is None else mark.id
        left.append(
            Remnant(
                f"data files of {place.uri}, where rows are marked as deleted",
                "Have them written anew, then drop the versions before that: "
                f"table.update(where='true', values_sql={{'{key}': '{key}'}}).",
            )
        )
    if kept:
        left.append(
            Remnant(
                f"{kept:,} versions of {place.uri} before {latest}",
                "Once no reader needs them, drop them: "
                "table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True).",
            )
        )
    return tuple(left)
