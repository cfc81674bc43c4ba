"""SQLite sidecars: the rows of a table, keyed by an integer column.

Values become JSON's; of a column declared JSON, what its text holds. Bytes have no form in JSON.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from vecmigrate.connector import InputError, UsageError, told_as
from vecmigrate_faiss.lookup import IdTable, Int64s
from vecmigrate_faiss.sidecars.base import DEFAULT_KEY, Record, Sidecar

MAGIC = b"SQLite format 3\0"


class SqliteSidecar(Sidecar):
    """A table of a SQLite file, opened for reading only.

    Parameters
    ----------
    key
        The column that holds the id; None for ``id``.
    table
        None for the only one there is.

    Raises
    ------
    InputError
        If the file cannot be read, or has no such column.
    UsageError
        If it has no such table, or several and none is named.
    """

    def __init__(self, path: Path, key: str | None, table: str | None) -> None:
        super().__init__(path)
        self._key = key or DEFAULT_KEY
        # SQLite's own locking: batches are read from another thread than the one that opened it.
        self._file = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        try:
            with self._reading():
                self._table_name = self._named(table)
                self._columns = self._declared()
        except BaseException:
            self.close()
            raise
        self._rows_of_ids: IdTable | None = None

    def sample(self, limit: int) -> list[Record]:
        with self._reading():
            rows = self._file.execute(
                f"SELECT {self._selected} FROM {self._from} ORDER BY rowid LIMIT ?", (limit,)
            )
            return [self._record(row) for row in rows]

    def lookup(self, faiss_ids: Int64s) -> Sequence[Record | None]:
        if self._rows_of_ids is None:
            with self._reading():
                self._rows_of_ids = self._read_keys()
        found = self._rows_of_ids.find(faiss_ids)
        wanted = json.dumps(np.unique(found[found >= 0]).tolist())
        with self._reading():
            rows = self._file.execute(
                f"SELECT {self._selected} FROM {self._from} "
                "WHERE rowid IN (SELECT value FROM json_each(?))",
                (wanted,),
            )
            records = {record.faiss_id: record for record in map(self._record, rows)}
        return [records.get(i) for i in faiss_ids.tolist()]

    @property
    def files(self) -> tuple[Path, ...]:
        # What was committed last may be in the log alone.
        log = self.path.with_name(f"{self.path.name}-wal")
        return (self.path, log) if log.exists() else (self.path,)

    def close(self) -> None:
        self._file.close()

    @property
    def _from(self) -> str:
        return _quoted(self._table_name)

    @property
    def _selected(self) -> str:
        return ", ".join(map(_quoted, self._columns))

    def _named(self, table: str | None) -> str:
        rows = self._file.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "
            "ESCAPE '\\' ORDER BY name"
        )
        names = [name for (name,) in rows]
        if table in names:
            return str(table)
        if table is None and len(names) == 1:
            return str(names[0])
        raise UsageError(
            f"{self.path} has {'no' if table else 'not one'} table{f' {table!r}' if table else ''}",
            remedy=f"Name the one of the points as ?table=, of: {', '.join(names) or 'none'}.",
        )

    def _declared(self) -> dict[str, bool]:
        """Return the columns' names, True for those declared JSON."""
        rows = self._file.execute(
            "SELECT name, type FROM pragma_table_info(?)", (self._table_name,)
        )
        columns = {name: kind.upper() in ("JSON", "JSONB") for name, kind in rows}
        if self._key not in columns:
            raise InputError(
                f"{self.path}: the table {self._table_name!r} has no column {self._key!r}",
                remedy=f"Name the one that holds the id as ?id=, of: {', '.join(columns)}.",
            )
        return columns

    def _read_keys(self) -> IdTable:
        key = _quoted(self._key)
        wrong = self._file.execute(
            f"SELECT count(*) FROM {self._from} WHERE typeof({key}) <> 'integer'"
        ).fetchone()[0]
        if wrong:
            raise InputError(
                f"{self.path}: the column {self._key!r} holds no integer in {wrong} rows",
                remedy="FAISS ids are 64-bit integers; name the column that holds them as ?id=.",
            )
        rows = self._file.execute(f"SELECT {key}, rowid FROM {self._from} ORDER BY rowid")
        pairs = np.fromiter(rows, dtype=np.dtype((np.int64, 2)))
        table = IdTable(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))
        self.refuse_repeated(table, self._key)
        return table

    def _record(self, row: Sequence[Any]) -> Record:
        payload: dict[str, Any] = {}
        faiss_id = 0
        for (name, is_json), value in zip(self._columns.items(), row, strict=True):
            if name == self._key:
                faiss_id = value
            elif isinstance(value, bytes):
                raise InputError(
                    f"{self.path}: the column {name!r} holds bytes, which JSON lacks",
                    remedy="Leave the column out, as in a copy of the table, or turn it into text.",
                )
            else:
                payload[name] = json.loads(value) if is_json and isinstance(value, str) else value
        return Record(faiss_id, faiss_id, payload)

    def _reading(self) -> AbstractContextManager[None]:
        return told_as(
            InputError,
            f"{self.path} cannot be read as SQLite",
            "Check that the file is whole, that its table has row ids, and that its columns "
            "declared JSON hold JSON.",
            (sqlite3.Error, ValueError),
        )


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
