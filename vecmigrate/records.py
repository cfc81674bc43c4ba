"""The state file while verifications and cutovers are read and written there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

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
        As :func:`vecmigrate.state.open_state`.
    """
    with closing(open_state(state_path(given))) as connection:
        yield connection
