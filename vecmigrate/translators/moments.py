"""First and second moments of anchor pairs, gathered in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.translators.base import FITTING_ROWS


@dataclass(slots=True)
class PairMoments:
    """Means and centred co-moments of pairs ``(x, y)``, in float64.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), which does not
    cancel where means are large against spreads.

    Attributes
    ----------
    count
        Pairs seen.
    mean_x, mean_y
        ``(d_x,)`` and ``(d_y,)``.
    xx, xy
        ``(d_x, d_x)`` and ``(d_x, d_y)`` sums of products of deviations.
    yy
        Sum of squared deviations of y, over all its components.
    """

    count: int
    mean_x: NDArray[np.float64]
    mean_y: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    yy: float

    @classmethod
    def empty(cls, d_x: int, d_y: int) -> Self:
        """Moments of no pairs."""
        return cls(0, np.zeros(d_x), np.zeros(d_y), np.zeros((d_x, d_x)), np.zeros((d_x, d_y)), 0.0)

    def update(self, X: NDArray[np.floating], Y: NDArray[np.floating]) -> None:
        """Take in ``(n, d_x)`` and ``(n, d_y)`` pairs of any float dtype."""
        for start in range(0, len(X), FITTING_ROWS):
            x = np.asarray(X[start : start + FITTING_ROWS], dtype=np.float64)
            y = np.asarray(Y[start : start + FITTING_ROWS], dtype=np.float64)
            mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
            x, y = x - mean_x, y - mean_y
            total = self.count + len(x)
            d_x, d_y = mean_x - self.mean_x, mean_y - self.mean_y
            weight = self.count * len(x) / total
            self.xx += x.T @ x + weight * np.outer(d_x, d_x)
            self.xy += x.T @ y + weight * np.outer(d_x, d_y)
            self.yy += float(np.einsum("ij,ij->", y, y)) + weight * float(d_y @ d_y)
            self.mean_x += d_x * (len(x) / total)
            self.mean_y += d_y * (len(x) / total)
            self.count = total
