"""The Gaussian kernel between vectors and landmarks, in place over one matrix product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class GaussianLandmarks:
    """Points that the kernel exp(-gamma |x - z|^2) is evaluated against.

    Parameters
    ----------
    gamma
        Inverse squared length scale, in the units of ``points``.
    points
        ``(m, d)`` float32.
    """

    def __init__(self, gamma: float, points: NDArray[np.floating]) -> None:
        self._root = np.float32(np.sqrt(gamma))
        scaled = points.astype(np.float32) * self._root
        d = scaled.shape[1]
        # With x' = [x, |x|^2, 1] and z' = [2z, -1, -|z|^2], one product gives -|x - z|^2.
        self._augmented = np.empty((d + 2, len(scaled)), np.float32)
        self._augmented[:d] = 2 * scaled.T
        self._augmented[d] = -1
        self._augmented[d + 1] = -np.einsum("ij,ij->i", scaled, scaled)

    def __len__(self) -> int:
        return len(self._augmented[0])

    def evaluate(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the ``(n, m)`` float32 kernel values of ``(n, d)`` vectors."""
        d = X.shape[1]
        augmented = np.empty((len(X), d + 2), np.float32)
        np.multiply(X, self._root, out=augmented[:, :d], casting="same_kind")
        augmented[:, d] = np.einsum("ij,ij->i", augmented[:, :d], augmented[:, :d])
        augmented[:, d + 1] = 1
        values: NDArray[np.float32] = augmented @ self._augmented
        # Rounding can leave a point a little nearer to itself than not at all.
        np.minimum(values, 0, out=values)
        np.exp(values, out=values)
        return values
