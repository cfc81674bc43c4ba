"""Ids of points: the rows that they belong to, and how errors name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray, PointId

_NAMED_AT_MOST = 10


Rows = NDArray[np.intp]
"""``(n,)`` row numbers, -1 if an id is not there."""


class IdLookup(Protocol):
    """Finds rows by ids."""

    def rows(self, ids: IdArray) -> Rows:
        """Return the row of each of ``(n,)`` ids, -1 for an unknown one."""
        ...


class RowNumbers:
    """Rows whose numbers are their ids."""

    def __init__(self, count: int) -> None:
        self._count = count

    def rows(self, ids: IdArray) -> Rows:
        numbers = integers_of(ids)
        return np.where((numbers >= 0) & (numbers < self._count), numbers, -1).astype(np.intp)


class IntegerIds:
    """Rows with an integer id each, found by bisection.

    Parameters
    ----------
    ids
        ``(n,)`` int64, none twice and none negative.
    """

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def rows(self, ids: IdArray) -> Rows:
        numbers = integers_of(ids)
        at = np.minimum(np.searchsorted(self._sorted, numbers), len(self._sorted) - 1)
        return np.where(self._sorted[at] == numbers, self._order[at], -1)


class AnyIds:
    """Rows with a string, or an integer beyond int64, as id."""

    def __init__(self, ids: IdArray) -> None:
        self._rows = {point_id: row for row, point_id in enumerate(ids.tolist())}

    def rows(self, ids: IdArray) -> Rows:
        return np.fromiter(
            (self._rows.get(point_id, -1) for point_id in ids.tolist()), np.intp, len(ids)
        )


def integers_of(ids: IdArray) -> NDArray[np.int64]:
    """Return ids as int64, -1 (which is no id) for strings and for what int64 cannot hold."""
    if ids.dtype == np.int64:
        return ids
    top = np.iinfo(np.int64).max
    fitting = (
        int(i) if isinstance(i, (int, np.integer)) and i <= top else -1 for i in ids.tolist()
    )
    return np.fromiter(fitting, np.int64, len(ids))


def lookup_of(ids: IdArray) -> IdLookup:
    """Choose the lookup for the ids of a table."""
    return IntegerIds(ids) if ids.dtype == np.int64 and len(ids) else AnyIds(ids)


def name_some(names: Iterable[object]) -> str:
    """List ids or names to a user: the first ten, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMED_AT_MOST
    return ", ".join(map(str, listed[:_NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")


def point_name(ids: Sequence[PointId] | IdArray | None, row: int) -> str:
    """Name a point to a user: by its id, or by its position if ids are not known."""
    return f"text {row}" if ids is None else f"id {ids[row]}"
