"""A table of the state file."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import ClassVar

from vecmigrate.state.file import transaction


class StateTable:
    """A table of the state file, made where it is not there yet.

    Parameters
    ----------
    connection
        To the state file.

    Raises
    ------
    WriteError
        Here and from each method: where the file cannot be written.
    """

    schema: ClassVar[str]
    """The statement that makes the table."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        with self._transaction() as begun:
            begun.execute(self.schema)

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._connection)
