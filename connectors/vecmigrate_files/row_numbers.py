"""Row numbers as ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import PointId


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
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 where it is not there."""
        there = (i if isinstance(i, int) and 0 <= i < self._count else -1 for i in wanted)
        return np.fromiter(there, np.int64, len(wanted))

    def __len__(self) -> int:
        return self._count
