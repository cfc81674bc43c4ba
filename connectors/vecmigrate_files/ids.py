"""All ids of a collection, by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vecmigrate.connector import IdArray, PointId, arrow


def last_rows(ids: Any) -> NDArray[np.bool_] | None:
    """Return a mask of each id's last row; None if no id comes twice.

    Parameters
    ----------
    ids
        An Arrow chunked array of what :func:`arrow.plain_ids` made.
    """
    if pa.types.is_integer(ids.type):
        numbers = ids.to_numpy()
        if bool((numbers[1:] > numbers[:-1]).all()):
            return None
    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    rows = pa.table({"id": ids, "row": np.arange(len(ids))})
    mask = np.zeros(len(ids), dtype=np.bool_)
    mask[rows.group_by("id").aggregate([("row", "max")])["row_max"].to_numpy()] = True
    return mask


class IdColumn:
    """All ids of a collection, by row: 8 bytes an integer, or the texts in one piece.

    Parameters
    ----------
    ids
        An Arrow chunked array of what :func:`arrow.plain_ids` made.
    """

    def __init__(self, ids: Any) -> None:
        self._ids = ids

    def slice(self, start: int, length: int) -> IdArray:
        """Return the ids of some rows."""
        return arrow.ids_of(self._ids.slice(start, length))

    def first_repeated(self) -> tuple[PointId, int, int] | None:
        """Return an id that comes twice, and two of its rows; None if none does."""
        mask = last_rows(self._ids)
        if mask is None:
            return None
        first = int(np.flatnonzero(~mask)[0])
        found: PointId = self._ids[first].as_py()
        rows = np.flatnonzero(pc.equal(self._ids, self._ids[first]).to_numpy())
        return found, first, int(rows[1])

    def rows(self, wanted: Sequence[PointId]) -> NDArray[np.int64]:
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 if it is not there."""
        type_ = self._ids.type
        top = 2**63 if type_ == pa.int64() else 2**64
        possible = {
            i: None
            for i in wanted
            if (
                isinstance(i, str)
                if arrow.is_text(type_)
                else not isinstance(i, str) and 0 <= i < top
            )
        }
        # The few are hashed and the many looked up: no second copy of the ids is made.
        at = pc.index_in(self._ids, value_set=pa.array(list(possible), type_))
        at = at.fill_null(-1).to_numpy()
        row_of = np.full(len(possible), -1, dtype=np.int64)
        there = np.flatnonzero(at >= 0)
        row_of[at[there]] = there
        places = {i: int(row) for i, row in zip(possible, row_of.tolist(), strict=True)}
        return np.fromiter((places.get(i, -1) for i in wanted), np.int64, len(wanted))

    def __len__(self) -> int:
        return len(self._ids)


class RowNumbers:
    """Stands for an :class:`IdColumn` of 0 to ``count - 1``, holding none of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def slice(self, start: int, length: int) -> NDArray[np.int64]:
        """Return the ids of some rows."""
        return np.arange(start, min(start + length, self._count), dtype=np.int64)

    def first_repeated(self) -> None:
        """There is none."""

    def rows(self, wanted: Sequence[PointId]) -> NDArray[np.int64]:
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 if it is not there."""
        there = (i if isinstance(i, int) and 0 <= i < self._count else -1 for i in wanted)
        return np.fromiter(there, np.int64, len(wanted))

    def __len__(self) -> int:
        return self._count
