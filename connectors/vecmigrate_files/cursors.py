"""Cursors: the number of the next row."""

from __future__ import annotations

from vecmigrate.connector import StoreURI, UsageError


def row_of(cursor: str | None, uri: StoreURI) -> int:
    """Return the row that a cursor stands for.

    Raises
    ------
    UsageError
        Where it is none.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise UsageError(f"{cursor!r} is no cursor of {uri}", remedy="Start anew.")
    return int(cursor)
