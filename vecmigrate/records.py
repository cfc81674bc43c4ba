"""The state file while verifications and cutovers are read and written there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vecmigrate.errors import WriteError
from vecmigrate.state import open_state, state_path


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
        As :func:`vecmigrate.state.open_state`; the last one also where the file is no longer
        writable when something is to be recorded.
    """
    path = state_path(given)
    try:
        with closing(open_state(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise WriteError(
            f"the state file {path} cannot be written ({error})",
            remedy="Check its folder's permissions and free space, then run this again.",
        ) from error
