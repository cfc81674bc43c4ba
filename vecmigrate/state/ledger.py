"""The ledger: what is known of each point of a target, in a file beside the state file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.addresses import followed_place, followed_uri
from vecmigrate.connector.source import Source
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, id_array
from vecmigrate.points.canonical import has_floats
from vecmigrate.points.checksums import (
    BITS,
    IdFingerprint,
    payload_hashes,
    sketch_tolerance,
    sketches,
    source_hashes,
    target_hashes,
)
from vecmigrate.state.file import failing, open_state, transaction

_TABLES = (
    "CREATE TABLE IF NOT EXISTS points (id PRIMARY KEY, vector INTEGER, payload INTEGER, "
    "origin INTEGER, variance REAL, has_text INTEGER, target INTEGER, sketch INTEGER) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS writing (id PRIMARY KEY, vector INTEGER, payload INTEGER, "
    "origin INTEGER, variance REAL, has_text INTEGER, wrote INTEGER, run INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE IF NOT EXISTS left_out (id PRIMARY KEY, vector INTEGER, payload INTEGER) "
    "WITHOUT ROWID",
    "CREATE TEMP TABLE asked (position INTEGER PRIMARY KEY, id)",
)


_IDS_AT_ONCE = 8192

HASH_RULE = 3
"""How a ledger's hashes of the source are made. By another rule each point looks changed."""


class Origin(IntEnum):
    """Whose a point's vector at the target is."""

    TRANSLATED = 0
    ENCODED = 1
    FOREIGN = 2
    DELETED = 3
    BARE = 4
    """Without a vector, as the source has it."""


@dataclass(slots=True)
class LedgerRow:
    """A point as it was when it was last brought in step.

    Attributes
    ----------
    vector, payload
        Hashes of what the source held; ``vector`` is None if that is not known.
    target
        Hash of the vector that the target held afterwards, by which it is known to be ours still;
        None if nobody has read it there.
    sketch
        Of the vector that a migration wrote, by which it is known as long as ``target`` is None; or
        that a store held which may change a vector's last bits, by which it is known then too.
    wrote
        Hash of the payload that is being written; while that is not known to have arrived.
    """

    id: PointId
    vector: int | None
    payload: int
    origin: Origin
    variance: float | None = None
    has_text: bool = False
    target: int | None = None
    wrote: int | None = None
    sketch: int | None = None


@dataclass(frozen=True, slots=True)
class MovedPoints:
    """Points as a migration has read and written them.

    Attributes
    ----------
    ids
        ``(n,)`` ids.
    hashes
        ``(n, 2)`` int64, see :func:`vecmigrate.points.checksums.source_hashes`.
    origins
        ``(n,)`` int8, of :class:`Origin`.
    sketches
        ``(n,)`` int64, see :func:`vecmigrate.points.checksums.sketches`.
    """

    ids: IdArray
    hashes: NDArray[np.int64]
    origins: NDArray[np.int8]
    sketches: NDArray[np.int64]


class HeldVectors:
    """Vectors that a target holds, by which a point there is known to be ours still, or is not.

    Parameters
    ----------
    found
        Points of the target.
    rounding
        How far its vectors may lie from what was written, see :meth:`Source.rounding`.
    payloads
        True if a point of ours whose payload is not as the ledger knows it is another's.
    ulps
        See :meth:`Source.payload_ulps`: unless it is 0, a payload with floats may have changed by
        itself, and counts as known.

    Attributes
    ----------
    hashes
        Of each point's vector, 0 if it has none.
    """

    def __init__(
        self, found: VectorBatch, rounding: float, *, payloads: bool = False, ulps: int = 0
    ) -> None:
        self.hashes = target_hashes(found)
        self._found = found
        self._exact, self._tolerance = not rounding, sketch_tolerance(rounding)
        self._sketches: list[int] | None = None
        self._payloads = source_hashes(found)[:, 1].tolist() if payloads else None
        self._ulps = ulps

    def are_ours(self, known: LedgerRow | None, at: int) -> bool:
        """Tell whether point ``at`` is as the ledger knows it, and ours."""
        if known is None or known.origin is Origin.FOREIGN or not self.are_as(known, at):
            return False
        return not self.has_another_payload(known, at)

    def has_another_payload(self, known: LedgerRow | None, at: int) -> bool:
        """Tell whether point ``at`` has another payload than is known, if that can be told."""
        if self._payloads is None or known is None or known.origin is Origin.FOREIGN:
            return False
        return self._payloads[at] != known.payload and not self._drifted(at)

    def is_as_written(self, interrupted: Mapping[PointId, int | None], at: int) -> bool:
        """Tell whether point ``at`` is as a run that was interrupted was writing it.

        Parameters
        ----------
        interrupted
            See :meth:`Ledger.interrupted`. A point that was being deleted was not being written.
        """
        wrote = interrupted.get(self._ids[at])
        return wrote is not None and (self._written[at] == wrote or self._drifted(at))

    @cached_property
    def _ids(self) -> list[PointId]:
        ids: list[PointId] = self._found.ids.tolist()
        return ids

    @cached_property
    def _written(self) -> list[int]:
        return payload_hashes(self._found)

    def _drifted(self, at: int) -> bool:
        return bool(self._ulps) and has_floats(self._found.each_payload()[at])

    def which_are_ours(self, known: Sequence[LedgerRow | None]) -> NDArray[np.bool_]:
        """Return :meth:`are_ours` of each of the ``n`` points, given what is known of it."""
        return np.array([self.are_ours(row, at) for at, row in enumerate(known)], np.bool_)

    def are_as(self, known: LedgerRow | None, at: int) -> bool:
        """Tell whether point ``at`` has the vector that the ledger knows."""
        if known is None:
            return False
        if known.target is not None and known.target == self.hashes[at]:
            return True
        if known.sketch is None:
            return known.target == self.hashes[at]
        has_one = self.hashes[at] != 0
        if known.origin is Origin.BARE or not has_one:
            return has_one == (known.origin is not Origin.BARE)
        differing = (known.sketch ^ self._sketch(at)) & ((1 << BITS) - 1)
        return differing.bit_count() <= self._tolerance

    def note(self, entry: LedgerRow, at: int) -> None:
        """Note in an entry the vector of point ``at``."""
        entry.target = self.hashes[at]
        entry.sketch = None if self._exact or not entry.target else self._sketch(at)

    def _sketch(self, at: int) -> int:
        if self._sketches is None:
            there = np.array(self._found.each_count()) > 0
            made = np.zeros(len(there), np.int64)
            made[there] = sketches(self._found.with_one_vector().vectors)
            self._sketches = made.tolist()
        return self._sketches[at]


def stored(point_id: PointId) -> int | str | bytes:
    """Return an id as SQLite can keep it: integers beyond its 64 bits as bytes."""
    if isinstance(point_id, str) or -(2**63) <= point_id < 2**63:
        return point_id
    return point_id.to_bytes(16, "big", signed=True)


def restored(value: Any) -> PointId:
    """Undo :func:`stored`."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "big", signed=True)
    point_id: PointId = value
    return point_id


def ledger_path(state: Path, target: str, spelling: Callable[[str], str] = followed_place) -> Path:
    """Return where the ledger of a target is kept, by whichever name the target is reached.

    Parameters
    ----------
    spelling
        ``canonical_place`` for a target that may not be there yet.
    """
    return state.parent / "ledgers" / f"{ledger_key(target, spelling)}.sqlite"


def ledger_key(target: str, spelling: Callable[[str], str] = followed_place) -> str:
    """Name a target's ledger; see :func:`ledger_path`."""
    return hashlib.blake2b(spelling(target).encode(), digest_size=16).hexdigest()


def back_ledger_path(state: Path, old: str) -> Path:
    """Return where it is kept what was brought back to a collection after a cutover."""
    return state.parent / "ledgers" / f"{ledger_key(old)}-back.sqlite"


@contextmanager
def open_ledger(path: Path, *, keep: bool = True) -> Iterator[Ledger]:
    """Open a ledger, made if it is not there; with ``keep`` False in memory then.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    here: str | Path = path if keep or path.exists() else ":memory:"
    with closing(open_state(here)) as connection:
        yield Ledger(connection)


class Ledger:
    """The points that a sync has written, or found to be its own, or another's.

    Parameters
    ----------
    connection
        To the ledger's file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        with transaction(connection):
            for table in _TABLES:
                connection.execute(table)
            columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(points)")]
            if "sketch" not in columns:
                connection.execute("ALTER TABLE points ADD COLUMN sketch INTEGER")
        self.run = int(self.fact("run") or 0) + 1

    def fact(self, name: str) -> Any:
        """Return what was noted under a name, or None."""
        row = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def note(self, **facts: Any) -> None:
        """Note JSON-like values by name."""
        with transaction(self.connection) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in facts.items()],
            )

    def is_new(self) -> bool:
        """True if no point is known."""
        return self.count("(SELECT 1 FROM points LIMIT 1)") == 0

    def was_interrupted(self) -> bool:
        """True if an earlier run was writing when it ended."""
        return self.count("(SELECT 1 FROM writing LIMIT 1)") == 1

    def origins(self, where: str = "1") -> dict[Origin, int]:
        """Count the points of each origin."""
        rows = self.connection.execute(
            f"SELECT origin, count(*) FROM points WHERE {where} GROUP BY origin"
        )
        counted = {Origin(origin): count for origin, count in rows}
        return {origin: counted.get(origin, 0) for origin in Origin}

    def fingerprint(self) -> IdFingerprint:
        """Return the fingerprint of the ids of all points."""
        found = IdFingerprint()
        for ids in self.ids(_IDS_AT_ONCE):
            found.add(ids)
        return found

    def ids(self, size: int) -> Iterator[IdArray]:
        """Yield the ids of all points, some at a time."""
        rows = self.connection.execute("SELECT id FROM points")
        while some := rows.fetchmany(size):
            yield id_array([restored(point_id) for (point_id,) in some])

    def entries(self, ids: IdArray) -> list[LedgerRow | None]:
        """Return what is known of each point."""
        rows = self._asked(
            ids,
            "SELECT asked.position, points.id, vector, payload, origin, variance, has_text, "
            "target, sketch FROM asked JOIN points ON points.id = asked.id",
        )
        found: list[LedgerRow | None] = [None] * len(ids)
        for position, point_id, vector, payload, origin, variance, text, target, sketch in rows:
            found[position] = LedgerRow(
                restored(point_id), vector, payload, Origin(origin), variance,
                bool(text), target, sketch=sketch,
            )  # fmt: skip
        return found

    def interrupted(self, ids: IdArray) -> dict[PointId, int | None]:
        """Return those that an earlier run was writing when it ended, with :attr:`LedgerRow.wrote`.

        That is None if it was deleting the point.
        """
        rows = self._asked(
            ids,
            "SELECT asked.id, wrote FROM asked JOIN writing ON writing.id = asked.id WHERE run < ?",
            self.run,
        )
        return {restored(point_id): wrote for point_id, wrote in rows}

    def tells_payloads(self, source: Source, target: Source) -> bool:
        """True if its hashes of the source's payloads can be compared with the target's.

        Another store may give a payload back in another way.
        """
        same_store = source.describe().store == target.describe().store
        return same_store and self.fact("form") == target.hash_form

    def intend(self, entries: Iterable[LedgerRow]) -> None:
        """Note what is about to be written or deleted, so that a kill leaves it known as ours."""
        with transaction(self.connection) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO writing VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (stored(e.id), e.vector, e.payload, e.origin, e.variance, e.has_text,
                     e.wrote, self.run)
                    for e in entries
                ],
            )  # fmt: skip

    def drop_intents(self) -> None:
        """Take no point for one being written that others have deleted, by the scan of the target.

        An earlier run was ended between noting what it would write and writing it, or right after.
        """
        with transaction(self.connection) as connection:
            connection.execute(
                "DELETE FROM writing WHERE run < ? AND origin != ? "
                "AND id IN (SELECT id FROM points) AND id NOT IN (SELECT id FROM there)",
                (self.run, Origin.DELETED),
            )

    def intended(self, size: int) -> list[LedgerRow]:
        """Return some of what this run intended and has not settled."""
        rows = self.connection.execute(
            "SELECT id, vector, payload, origin, variance, has_text, NULL, wrote FROM writing "
            "WHERE run = ? LIMIT ?",
            (self.run, size),
        )
        return [LedgerRow(restored(i), v, p, Origin(o), *rest) for i, v, p, o, *rest in rows]

    def settle(self, entries: Iterable[LedgerRow]) -> None:
        """Note what the target holds now."""
        entries = list(entries)
        keys = [(stored(entry.id),) for entry in entries]
        with transaction(self.connection) as connection:
            connection.executemany("DELETE FROM writing WHERE id = ?", keys)
            connection.executemany(
                "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        stored(e.id),
                        e.vector,
                        e.payload,
                        e.origin,
                        e.variance,
                        e.has_text,
                        e.target,
                        e.sketch,
                    )
                    for e in entries
                    if e.origin is not Origin.DELETED
                ],
            )
            connection.executemany(
                "DELETE FROM points WHERE id = ?",
                [(stored(e.id),) for e in entries if e.origin is Origin.DELETED],
            )

    def begin(self, *, keep_points: bool = False) -> None:
        """Know nothing, as of a target that is new.

        Parameters
        ----------
        keep_points
            Know what was known of points: the target still has them, among those of others.
        """
        known = ("writing", "left_out", "facts", *(() if keep_points else ("points",)))
        with transaction(self.connection) as connection:
            for table in known:
                connection.execute(f"DELETE FROM {table}")

    def leave_out(self, ids: Iterable[PointId], as_read: Mapping[PointId, tuple[int, int]]) -> None:
        """Note points of the source that the target does not get, and what was read of them.

        A point that is known is none of these, whatever was noted before.
        """
        rows = [(stored(i), *as_read.get(i, (None, None))) for i in ids]
        with transaction(self.connection) as connection:
            connection.executemany("INSERT OR REPLACE INTO left_out VALUES (?, ?, ?)", rows)

    def left_out(self, ids: IdArray) -> dict[PointId, tuple[int | None, int | None]]:
        """Return those among points that were left out, with the hashes of what was read."""
        rows = self._asked(
            ids,
            "SELECT asked.id, vector, payload FROM asked JOIN left_out ON left_out.id = asked.id",
        )
        return {restored(point_id): (vector, payload) for point_id, vector, payload in rows}

    def take_down(self, moved: MovedPoints, *, keep_known: bool = False) -> None:
        """Note points that a migration has written; on the disk after :meth:`commit`.

        Parameters
        ----------
        keep_known
            Leave what is known already: an earlier run wrote it, and this one wrote nothing over.
        """
        ids = moved.ids.tolist()
        keys = ids if moved.ids.dtype == np.int64 else map(stored, ids)
        vectors, payloads = moved.hashes.T.tolist()
        rows = zip(
            keys, vectors, payloads, moved.origins.tolist(), moved.sketches.tolist(), strict=True
        )
        with failing(self.connection) as connection:
            connection.executemany(
                f"INSERT OR {'IGNORE' if keep_known else 'REPLACE'} INTO points "
                "(id, vector, payload, origin, sketch) VALUES (?, ?, ?, ?, ?)",
                rows,
            )

    def tell_variances(self, rows: Iterable[LedgerRow]) -> None:
        """Note the variances of translated points of which none is known."""
        with transaction(self.connection) as connection:
            connection.executemany(
                "UPDATE points SET variance = ?, has_text = ? "
                "WHERE id = ? AND variance IS NULL AND origin = ?",
                [(r.variance, r.has_text, stored(r.id), Origin.TRANSLATED) for r in rows],
            )

    def commit(self) -> None:
        """Put on the disk what was taken down."""
        with failing(self.connection) as connection:
            connection.commit()

    def forget(self, ids: Iterable[PointId]) -> None:
        """Know nothing of points any more."""
        keys = [(stored(i),) for i in ids]
        with transaction(self.connection) as connection:
            connection.executemany("DELETE FROM points WHERE id = ?", keys)
            connection.executemany("DELETE FROM writing WHERE id = ?", keys)

    def known(self, ids: IdArray) -> set[PointId]:
        """Return those ids that any table has."""
        found: set[PointId] = set()
        for table in self._tables_of_points():
            rows = self._asked(ids, f"SELECT asked.id FROM asked JOIN {table} USING (id)")
            found.update(restored(point_id) for (point_id,) in rows)
        return found

    def erase(self, ids: IdArray) -> None:
        """Delete all that is known of points, from each table; freed bytes are overwritten.

        See also :func:`vecmigrate.state.file.overwrite_freed`.
        """
        keys = [(stored(i),) for i in ids.tolist()]
        self.connection.execute("PRAGMA secure_delete = ON").fetchall()
        with transaction(self.connection) as connection:
            for table in self._tables_of_points():
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", keys)

    def _tables_of_points(self) -> list[str]:
        return [
            name
            for (name,) in self.connection.execute(
                "SELECT name FROM main.sqlite_master WHERE type = 'table' AND EXISTS "
                "(SELECT 1 FROM pragma_table_info(sqlite_master.name) AS c WHERE c.name = 'id')"
            )
        ]

    def there(self, ids: IdArray) -> NDArray[np.bool_]:
        """Tell which ids the target holds, by the scan of it."""
        return self.among("there", ids)

    def among(self, table: str, ids: IdArray) -> NDArray[np.bool_]:
        """Tell which ids a temporary table has."""
        mask = np.zeros(len(ids), dtype=np.bool_)
        rows = self._asked(
            ids, f"SELECT asked.position FROM asked JOIN {table} ON {table}.id = asked.id"
        )
        mask[[position for (position,) in rows]] = True
        return mask

    def add_ids(self, table: str, ids: IdArray, *, keep: bool = False) -> None:
        """Write ids to a temporary table; see :meth:`fill`."""
        self.fill(table, ((stored(i),) for i in ids.tolist()), keep=keep)

    def collect_ids(self, table: str, ids: Iterable[IdArray]) -> None:
        """Make a temporary table of ids that come some at a time."""
        self.make(table)
        for some in ids:
            self.add_ids(table, some)

    def strike(self, ids: Iterable[PointId], tables: Iterable[str]) -> None:
        """Take ids out of temporary tables."""
        keys = [(stored(i),) for i in ids]
        self.make("struck")
        self.fill("struck", keys)
        with transaction(self.connection) as connection:
            for table in tables:
                connection.execute(f"DELETE FROM {table} WHERE id IN (SELECT id FROM struck)")

    def listed(self, table: str, size: int) -> Iterator[IdArray]:
        """Yield the ids of a temporary table that has positions, some at a time."""
        last = 0
        while True:
            rows = self.connection.execute(
                f"SELECT position, id FROM {table} WHERE position > ? ORDER BY position LIMIT ?",
                (last, size),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield id_array([restored(point_id) for _, point_id in rows])

    def _asked(self, ids: IdArray, query: str, *values: object) -> list[Any]:
        with transaction(self.connection) as connection:
            connection.execute("DELETE FROM asked")
            connection.executemany(
                "INSERT INTO asked VALUES (?, ?)", enumerate(map(stored, ids.tolist()))
            )
            return connection.execute(query, values).fetchall()

    def count(self, what: str, *values: object) -> int:
        """Count the rows of a table, of a condition on one, or of a query."""
        query = f"SELECT count(*) FROM {what}"
        (count,) = self.connection.execute(query, values).fetchone()
        return int(count)

    def make(self, table: str, columns: str = "(id PRIMARY KEY) WITHOUT ROWID") -> None:
        """Make a temporary table, empty, in the place of an earlier one."""
        with transaction(self.connection) as connection:
            connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
            connection.execute(f"CREATE TEMP TABLE {table} {columns}")

    def fill(self, table: str, rows: Iterable[tuple[object, ...]], *, keep: bool = False) -> None:
        """Write rows to a temporary table; those with an id that is there replace it, or not."""
        each = list(rows)
        if each:
            otherwise = "IGNORE" if keep else "REPLACE"
            marks = ", ".join("?" * len(each[0]))
            with transaction(self.connection) as connection:
                connection.executemany(f"INSERT OR {otherwise} INTO {table} VALUES ({marks})", each)

    def list_into(self, table: str, query: str, *values: object) -> None:
        """Write the rows that a query finds to a temporary table."""
        with transaction(self.connection) as connection:
            connection.execute(f"INSERT INTO {table} {query}", values)

    def list_ids(self, table: str, query: str, *values: object) -> None:
        """Make a temporary table of the ids that a query finds, in order; see :meth:`listed`."""
        self.make(table, "(position INTEGER PRIMARY KEY, id)")
        with transaction(self.connection) as connection:
            connection.execute(f"INSERT INTO {table} (id) {query}", values)


@contextmanager
def begun_ledger(
    state: Path, target: str, rounding: float
) -> Iterator[Callable[[VectorBatch], None]]:
    """Begin the ledger of a vector that was just added in place; yields what notes its points.

    Points of a new collection are known by comparing them. On the source's own points that would
    not do: what changes, or loses its old vector, before the first sync would be taken for what
    somebody else wrote.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`open_state`.
    """
    with open_ledger(ledger_path(state, followed_uri(target))) as ledger:
        ledger.begin()

        def note(batch: VectorBatch) -> None:
            held = HeldVectors(batch, rounding)
            rows = [LedgerRow(i, None, 0, Origin.TRANSLATED) for i in batch.ids.tolist()]
            for at, row in enumerate(rows):
                held.note(row, at)
            ledger.settle(rows)

        yield note
