"""From ids to where they are, for millions of ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


class IdTable:
    """Maps int64 ids to int64 values: row numbers, or byte offsets.

    Holds 16 bytes an id at most, 8 if ids ascend, and none but the values if each id is one
    more than that before it.

    Parameters
    ----------
    ids
        ``(n,)`` int64.
    values
        ``(n,)`` int64, none negative; None for the positions in ``ids``.
    """

    def __init__(self, ids: Int64s, values: Int64s | None = None) -> None:
        ascending = bool((ids[1:] > ids[:-1]).all())
        self._count = len(ids)
        self._first = self._last = 0
        self._keys: Int64s | None = None
        self._values = values
        if ascending and len(ids) and int(ids[-1]) - int(ids[0]) == len(ids) - 1:
            self._first, self._last = int(ids[0]), int(ids[-1])
        elif ascending:
            self._keys = np.ascontiguousarray(ids)
        else:
            order = np.argsort(ids, kind="stable").astype(np.int64, copy=False)
            self._keys = ids[order]
            self._values = order if values is None else values[order]

    def repeated(self, limit: int = 10) -> list[int]:
        """Return ids that are there more than once, up to ``limit``."""
        if self._keys is None:
            return []
        twice = self._keys[1:][self._keys[1:] == self._keys[:-1]]
        return [int(i) for i in np.unique(twice)[:limit]]

    def find(self, ids: Int64s) -> Int64s:
        """Return ``(m,)`` int64 values of ``(m,)`` ids, -1 for those not there."""
        if not self._count:
            return np.full(len(ids), -1, dtype=np.int64)
        if self._keys is None:
            there = (ids >= self._first) & (ids <= self._last)
            positions = np.where(there, ids, self._first) - self._first
        else:
            positions = np.minimum(np.searchsorted(self._keys, ids), self._count - 1)
            there = self._keys[positions] == ids
        found = positions if self._values is None else self._values[positions]
        return np.where(there, found, -1).astype(np.int64, copy=False)
