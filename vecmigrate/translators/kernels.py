"""Kernels between vectors and landmarks, computed in place over one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]


def _gaussian(negative_squared: Block) -> None:
    np.exp(negative_squared, out=negative_squared)


def _cauchy(negative_squared: Block) -> None:
    np.subtract(1, negative_squared, out=negative_squared)
    np.reciprocal(negative_squared, out=negative_squared)


def _laplacian(negative_squared: Block) -> None:
    np.negative(negative_squared, out=negative_squared)
    np.maximum(negative_squared, 0, out=negative_squared)
    np.sqrt(negative_squared, out=negative_squared)
    np.negative(negative_squared, out=negative_squared)
    np.exp(negative_squared, out=negative_squared)


KERNELS: Mapping[str, Callable[[Block], None]] = {
    "gaussian": _gaussian,
    "cauchy": _cauchy,
    "laplacian": _laplacian,
}
"""By name, with r the distance times the square root of gamma: exp(-r^2), 1/(1+r^2), exp(-r)."""


class Landmarks:
    """Points that a kernel is evaluated against.

    Parameters
    ----------
    kernel
        A name of :data:`KERNELS`.
    gamma
        Inverse squared length scale, in the units of ``points``.
    points
        ``(m, d)`` float32.
    """

    def __init__(self, kernel: str, gamma: float, points: NDArray[np.floating]) -> None:
        self._apply = KERNELS[kernel]
        self._root = np.float32(np.sqrt(gamma))
        scaled = points.astype(np.float32) * self._root
        d = scaled.shape[1]
        # With x' = [x, |x|^2, 1] and z' = [2z, -1, -|z|^2], one product gives -|x - z|^2.
        self._augmented = np.empty((d + 2, len(scaled)), np.float32)
        self._augmented[:d] = 2 * scaled.T
        self._augmented[d] = -1
        self._augmented[d + 1] = -np.einsum("ij,ij->i", scaled, scaled)

    def __len__(self) -> int:
        return self._augmented.shape[1]

    def evaluate(self, X: NDArray[np.floating]) -> Block:
        """Return the ``(n, m)`` float32 kernel values of ``(n, d)`` vectors."""
        d = X.shape[1]
        augmented = np.empty((len(X), d + 2), np.float32)
        np.multiply(X, self._root, out=augmented[:, :d], casting="same_kind")
        augmented[:, d] = np.einsum("ij,ij->i", augmented[:, :d], augmented[:, :d])
        augmented[:, d + 1] = 1
        values: Block = augmented @ self._augmented
        # Rounding can leave a point a little nearer to itself than not at all.
        np.minimum(values, 0, out=values)
        self._apply(values)
        return values
