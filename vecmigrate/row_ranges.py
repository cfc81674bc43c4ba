"""Ranges of rows, for sources that number theirs: cursors, and the partitions of a source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeAlias

from vecmigrate.errors import UsageError

RowRange: TypeAlias = tuple[int, int]
"""The first row, and the one after the last."""


def steps(first: int, last: int, size: int) -> Iterator[RowRange]:
    """Yield ranges of ``size`` rows, the last one fewer."""
    for start in range(first, last, size):
        yield start, min(start + size, last)


def read_cursor(cursor: str | None, count: int, where: object) -> int:
    """Return the row of ``count`` that a cursor goes on with.

    Raises
    ------
    UsageError
    """
    if cursor is None:
        return 0
    number = cursor.isascii() and cursor.isdecimal() and len(cursor) < 20
    if not (number and int(cursor) <= count):
        raise UsageError(
            f"{cursor!r} is not a cursor of {where}",
            remedy=f"Its cursors are the numbers from 0 to {count}.",
        )
    return int(cursor)


def partition_tokens(first: int, count: int, rows: int) -> Iterator[str]:
    """Yield ranges from row ``first`` on as tokens, split at multiples of ``rows``."""
    start = first
    while start < count:
        stop = min(start - start % rows + rows, count)
        yield json.dumps([start, stop])
        start = stop


def read_token(token: str, count: int, where: object) -> RowRange:
    """Return a token's range.

    Raises
    ------
    UsageError
    """
    try:
        start, stop = map(int, json.loads(token))
    except (ValueError, TypeError):
        start, stop = -1, -1
    if not 0 <= start < stop <= count:
        raise UsageError(
            f"{token!r} is no partition of {where}",
            remedy="Use the tokens that its partitions() gives.",
        )
    return start, stop
