"""The state file: how it is opened, its tables, and one run at a time for each job."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from vecmigrate.errors import InputError, LockedError, MismatchError, WriteError
from vecmigrate.io.atomic import take_lock

STATE_VARIABLE = "VECMIGRATE_STATE"
DEFAULT_STATE = Path(".vecmigrate/state.sqlite")

VERSION = 1
_APPLICATION = 0x76656D69
"""Marks a SQLite file as ours, in its header."""

_BUSY_SECONDS = 30.0


def state_path(given: str | Path | None = None) -> Path:
    """Return the file given, else that of the environment, else the default here."""
    return Path(given or os.environ.get(STATE_VARIABLE) or DEFAULT_STATE)


def open_state(path: str | Path, *, threads: bool = False) -> sqlite3.Connection:
    """Open the state file, made if it is not there yet.

    A transaction that has returned is on the disk; see :func:`transaction`.

    Parameters
    ----------
    threads
        True if several threads use the connection, one at a time.

    Raises
    ------
    InputError
        If the file is not a state file.
    MismatchError
        If a newer vecmigrate made it.
    WriteError
        If it cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=not threads)
    except (OSError, sqlite3.Error) as error:
        raise WriteError(
            f"the state file {path} cannot be opened ({error})",
            remedy="Name a writable one with --state.",
        ) from error
    try:
        connection.execute("PRAGMA synchronous = FULL")
        # In one look, since another process may be making the file now.
        (tables, application, version) = connection.execute(
            "SELECT count(*), (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version) FROM sqlite_master"
        ).fetchone()
        if application == 0 and tables == 0:
            with connection:
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            application, version = _APPLICATION, VERSION
    except sqlite3.Error as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise WriteError(
                f"the state file {path} cannot be written ({error})",
                remedy="Check its folder's permissions and free space, or name another with "
                "--state.",
            ) from error
        raise _not_ours(path) from error
    if application != _APPLICATION:
        connection.close()
        raise _not_ours(path)
    if version > VERSION:
        connection.close()
        raise MismatchError(
            f"the state file {path} is of version {version}, and this vecmigrate knows {VERSION}",
            remedy="Use the vecmigrate that made it, or name another file with --state.",
        )
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Read or write the state file, all of it or nothing; on the disk at the end.

    Raises
    ------
    WriteError
        If the file cannot be written: a full disk, no permission, damage.
    """
    with failing(connection), connection:
        yield connection


def file_of(connection: sqlite3.Connection) -> Path:
    """Return the file of a database."""
    (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
    return Path(path)


@contextmanager
def failing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Turn an error of SQLite's into one of ours; see :func:`transaction`."""
    try:
        yield connection
    except sqlite3.Error as error:
        path = file_of(connection)
        raise WriteError(
            f"the state file {path} cannot be written ({error})",
            remedy="Check its folder's permissions and free space, then run the same command.",
        ) from error


def overwrite_freed(connection: sqlite3.Connection) -> None:
    """Make a file of ours anew within, so that nothing is left of rows that were deleted.

    Raises
    ------
    WriteError
        If the file cannot be written, or another process reads it for long.
    """
    with failing(connection):
        connection.commit()
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _not_ours(path: Path) -> InputError:
    return InputError(
        f"{path} is not a state file of vecmigrate", remedy="Name another with --state."
    )


class StateTable:
    """A table of the state file, made if it is not there yet.

    Parameters
    ----------
    connection
        To the state file.

    Raises
    ------
    WriteError
        Here and from each method: if the file cannot be written.
    """

    name: ClassVar[str]
    columns: ClassVar[str]
    """The columns with their types, as SQL has them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        with self._transaction() as begun:
            begun.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({self.columns})")

    def _put(self, **values: Any) -> int:
        """Write a row, in the place of one with its key; return its number."""
        marks = ", ".join("?" * len(values))
        with self._transaction() as begun:
            cursor = begun.execute(
                f"INSERT OR REPLACE INTO {self.name} ({', '.join(values)}) VALUES ({marks})",
                tuple(values.values()),
            )
        return int(cursor.lastrowid or 0)

    def _set(self, number: int, **values: Any) -> None:
        """Change columns of the row with this number."""
        assignments = ", ".join(f"{column} = ?" for column in values)
        with self._transaction() as begun:
            begun.execute(
                f"UPDATE {self.name} SET {assignments} WHERE id = ?", (*values.values(), number)
            )

    def _rows(self, columns: str, condition: str, *values: Any) -> list[Any]:
        """Return columns of the rows for which a condition holds."""
        with self._transaction() as begun:
            return begun.execute(
                f"SELECT {columns} FROM {self.name} WHERE {condition}", values
            ).fetchall()

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._connection)


@contextmanager
def job_lock(folder: Path, key: str, what: str) -> Iterator[None]:
    """Hold the lock of the job ``key``, whose file in ``folder`` tells who holds it.

    The system gives it back when the process ends, however it does.

    Raises
    ------
    LockedError
        If another run holds it, naming its process, machine and start.
    WriteError
        If the lock's file cannot be made, or locked.
    """
    path = folder / f"{key}.lock"
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = LockedError(
            f"{what} is being done by {_holder(path)}", remedy="Let it finish, or stop it."
        )
        lock = take_lock(path, taken)
    except OSError as error:
        raise _no_lock(path, error) from error
    with lock:
        try:
            lock.truncate(0)
            lock.write(json.dumps(holder).encode())
        except OSError as error:
            raise _no_lock(path, error) from error
        yield


def _no_lock(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"the lock {path} cannot be made: {error.strerror or error}",
        remedy="Name a state file on a local disk with free space, with --state.",
    )


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@contextmanager
def open_records(given: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Open the state file, and close it at the end.

    Parameters
    ----------
    given
        See :func:`vecmigrate.state.state_path`.

    Raises
    ------
    InputError, MismatchError, WriteError
        As :func:`vecmigrate.state.open_state`.
    """
    with closing(open_state(state_path(given))) as connection:
        yield connection
