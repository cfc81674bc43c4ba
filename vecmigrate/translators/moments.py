"""Means and co-moments of pairs, summed block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FITTING_ROWS = 4096
"""Rows converted to float64 at a time, so that fitting does not hold the anchors a second time."""


@dataclass(slots=True)
class PairMoments:
    """Means and centred co-moments of pairs ``(x, y)``, in float64.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), which does not
    cancel if means are large against spreads.

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

    @classmethod
    def of(cls, X: NDArray[np.floating], Y: NDArray[np.floating]) -> Self:
        """Moments of ``(n, d_x)`` and ``(n, d_y)`` pairs of any float dtype."""
        moments = cls.empty(X.shape[1], Y.shape[1])
        moments.update(X, Y)
        return moments

    def update(self, X: NDArray[np.floating], Y: NDArray[np.floating]) -> None:
        """Take in ``(n, d_x)`` and ``(n, d_y)`` pairs of any float dtype."""
        for start in range(0, len(X), FITTING_ROWS):
            x = np.asarray(X[start : start + FITTING_ROWS], dtype=np.float64)
            y = np.asarray(Y[start : start + FITTING_ROWS], dtype=np.float64)
            mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
            x, y = x - mean_x, y - mean_y
            squares = float(np.einsum("ij,ij->", y, y))
            self.add(PairMoments(len(x), mean_x, mean_y, x.T @ x, x.T @ y, squares))

    def add(self, other: PairMoments) -> None:
        """Take in pairs that are summed up already."""
        total = self.count + other.count
        d_x, d_y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.count * other.count / total
        self.xx += other.xx + weight * np.outer(d_x, d_x)
        self.xy += other.xy + weight * np.outer(d_x, d_y)
        self.yy += other.yy + weight * float(d_y @ d_y)
        self.mean_x += d_x * (other.count / total)
        self.mean_y += d_y * (other.count / total)
        self.count = total
