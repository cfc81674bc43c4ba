"""The state file in which verifications and cutovers are recorded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vecmigrate.errors import InputError, WriteError

_PATIENCE_SECONDS = 30.0


@contextmanager
def open_records(path: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Open the state file, made where it is not there; each change is on disk when it is made.

    Parameters
    ----------
    path
        None for one file for each user, so that a rollback finds what a cutover wrote wherever
        either is run.

    Raises
    ------
    InputError
        Where the file is none of SQLite's.
    WriteError
        Where it cannot be made or written.
    """
    path = path or _users_own()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"the folder {path.parent} of the state file cannot be made: {error.strerror or error}",
            remedy="Name another file with --state.",
        ) from error
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
            # A cutover whose way back a power cut took away could not be rolled back.
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except sqlite3.OperationalError as error:
        raise WriteError(
            f"the state file {path} cannot be written: {error}",
            remedy="Check the folder, its permissions and its free space, or name another --state.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{path} is not a state file of vecmigrate: {error}",
            remedy="Name the right one with --state.",
        ) from error


def _users_own() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "vecmigrate" / "records.sqlite"
