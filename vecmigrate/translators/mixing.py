"""How long translated vectors are to be beside true ones in the same collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors
from vecmigrate.runtime.threads import one_thread_a_product

NEIGHBOURS = 10
"""Scores are matched where a corpus's ten nearest end."""

LEAST_RANK = 3

MAX_QUERIES = 2000


def mixing_scale(held_out: Vectors, true: Vectors, population: int, seed: int = 0) -> float:
    """Return the length of translated vectors at which they compete fairly with true ones of 1.

    A query's nearest translated vectors score on another scale than its nearest true ones. With
    anchors' true vectors as queries, both are ranked by dot product, and the scale is the ratio of
    the mean scores at rank k, which among ``n`` anchors stands for rank ``NEIGHBOURS`` among the
    population: :math:`k = 10 n / N`. With k below ``LEAST_RANK`` that rank cannot be told apart
    from the nearest ones' luck, and the scale is 1, which spectral matching makes nearly fair.

    Parameters
    ----------
    held_out, true
        ``(n, d)`` float32: anchors as translated by maps without them, and their true vectors.
    population
        Points in the collection.
    """
    rank = round(NEIGHBOURS * len(true) / population)
    if rank < LEAST_RANK:
        return 1.0
    rows = np.random.default_rng(seed).permutation(len(true))[:MAX_QUERIES]
    at_rank = []
    for vectors in (true, held_out):
        scores = true[rows] @ vectors.T
        scores[np.arange(len(rows)), rows] = -np.inf
        at_rank.append(float(np.partition(scores, -rank, axis=1)[:, -rank].mean()))
    return at_rank[0] / at_rank[1] if min(at_rank) > 0 else 1.0


def lowest_direction(vectors: Vectors) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the ``(d,)`` unit vector that ``(n, d)`` vectors have least of.

    Adding some of it to a vector changes its length and next to none of its scores.
    """
    _, axes = np.linalg.eigh(vectors.astype(np.float64).T @ vectors)
    return np.ascontiguousarray(axes[:, 0], dtype=np.float32)


FLOOR = 1e-4
"""Variances are compared above this share of the largest, below which they are noise."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How vectors vary along their principal axes, in the precision of the vectors.

    Attributes
    ----------
    centre, variances
        ``(d,)``: their mean, and the variance along each axis, the least first.
    axes
        ``(d, d)``, one a column.
    """

    centre: NDArray[np.floating]
    variances: NDArray[np.floating]
    axes: NDArray[np.floating]

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> Self:
        """Measure ``(n, d)`` vectors."""
        import scipy.linalg as sl  # whose float32 is twice as fast here, unlike numpy's

        centre = vectors.mean(axis=0)
        deviations = vectors - centre
        covariance = deviations.T @ deviations / len(vectors)
        with one_thread_a_product():
            return cls(centre, *sl.eigh(covariance, driver="evd", check_finite=False))

    def along(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return ``(n, d)``: how far vectors lie from the centre along each axis."""
        along: NDArray[np.floating] = (vectors - self.centre) @ self.axes
        return along

    def gains(self, along: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return ``(d,)`` factors, at least 1, that let predictions vary as these vectors do.

        ``along`` is where :meth:`along` finds the predictions.
        """
        found = along.var(axis=0)
        floor = FLOOR * max(float(self.variances[-1]), float(np.finfo(np.float32).tiny))
        factors = np.sqrt((np.maximum(self.variances, 0) + floor) / (found + floor))
        gains: NDArray[np.floating] = np.maximum(factors, 1)
        return gains

    def vectors(self, along: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the ``(n, d)`` vectors that lie there."""
        vectors: NDArray[np.floating] = along @ self.axes.T
        vectors += self.centre
        return vectors


def spectral_match(
    predicted: NDArray[np.floating], true: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a symmetric matrix A and a centre m so that ``(f - m) A + m`` spreads as the truth.

    A regression's predictions vary less than what they predict, and least in the directions that
    it knows least about; nearest neighbours are then decided by the few others. In the basis V of
    the true vectors' principal axes, with their variances w, and v those of held-out predictions
    along the same axes, :math:`A = V \\operatorname{diag}(\\sqrt{w / v}) V^T`, never shrinking.

    Parameters
    ----------
    predicted, true
        ``(n, d)``: predictions for anchors that they were not fitted on, and the true vectors.

    Returns
    -------
    tuple
        ``(d, d)`` and ``(d,)``.
    """
    spread = Spread.of(np.asarray(true, dtype=np.float64))
    gains = spread.gains(spread.along(np.asarray(predicted, dtype=np.float64)))
    return (spread.axes * gains) @ spread.axes.T, np.asarray(spread.centre)
