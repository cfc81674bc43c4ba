"""The Gaussian kernel between vectors and landmarks, and what is added to it for texts."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Kernel:
    """exp(-gamma |x - z|^2) + text_weight s(x) . s(z), s being the last ``text_dim`` components.

    Attributes
    ----------
    gamma
        For vectors scaled as the points are.
    text_dim
        Components of a row that are features of its text; 0 where there are none.
    """

    gamma: float
    text_dim: int = 0
    text_weight: float = 0.0

    def split(
        self, points: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return the rows' vectors and their texts' features."""
        end = points.shape[1] - self.text_dim
        return points[:, :end], points[:, end:]

    def against(self, landmarks: NDArray[np.floating]) -> KernelRows:
        """Return what evaluates the kernel against ``(m, d)`` landmarks."""
        return KernelRows(self, landmarks)


class KernelRows:
    """Evaluates a :class:`Kernel` against landmarks."""

    def __init__(self, kernel: Kernel, landmarks: NDArray[np.floating]) -> None:
        self._kernel = kernel
        vectors, features = kernel.split(landmarks)
        self._gaussian = GaussianLandmarks(kernel.gamma, vectors)
        self._features = np.float32(kernel.text_weight) * features.T

    def __len__(self) -> int:
        return len(self._gaussian)

    def evaluate(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the ``(n, m)`` float32 kernel values of ``(n, d)`` rows."""
        vectors, features = self._kernel.split(points)
        values = self._gaussian.evaluate(vectors)
        if self._kernel.text_dim:
            values += features @ self._features
        return values
