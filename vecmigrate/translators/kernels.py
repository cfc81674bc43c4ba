"""The Gaussian kernel between vectors and landmarks, and what is added to it for texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import InputError
from vecmigrate.points.batch import Vectors
from vecmigrate.runtime.threads import one_thread_a_product
from vecmigrate.translators.moments import FITTING_ROWS


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

    def evaluate(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the ``(n, m)`` float32 kernel values of ``(n, d)`` vectors."""
        values = self.exponents(X)
        np.exp(values, out=values)
        return values

    def exponents(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the logarithms of the kernel values."""
        d = X.shape[1]
        augmented = np.empty((len(X), d + 2), np.float32)
        np.multiply(X, self._root, out=augmented[:, :d], casting="same_kind")
        augmented[:, d] = np.einsum("ij,ij->i", augmented[:, :d], augmented[:, :d])
        augmented[:, d + 1] = 1
        values: NDArray[np.float32] = augmented @ self._augmented
        # Rounding can leave a point a little nearer to itself than not at all.
        np.minimum(values, 0, out=values)
        return values


@dataclass(frozen=True, slots=True)
class Kernel:
    """exp(-gamma |x - z|^2) + text_weight s(x) . s(z), s being the last ``text_dim`` components.

    Attributes
    ----------
    gamma
        For vectors scaled as the points are.
    text_dim
        Components of a row that are features of its text; 0 if there are none.
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

    def against(
        self, landmarks: NDArray[np.floating]
    ) -> Callable[[NDArray[np.floating]], NDArray[np.float32]]:
        """Return what gives the ``(n, m)`` values of ``(n, d)`` rows and these ``(m, d)`` ones."""
        vectors, features = self.split(landmarks)
        gaussian = GaussianLandmarks(self.gamma, vectors)
        weighted = np.float32(self.text_weight) * features.T

        def evaluate(points: NDArray[np.floating]) -> NDArray[np.float32]:
            vectors, features = self.split(points)
            values = gaussian.evaluate(vectors)
            if self.text_dim:
                values += features @ weighted
            return values

        return evaluate


LEAST_FREEDOM = 0.05
"""An anchor's leverage is kept this far below 1, where rounding would divide by nothing."""

WORTH_THREADS = 2000
"""Below so many rows, a decomposition's threads mostly wait for one another, spinning."""

Matrix = NDArray[np.float64]


def regularized_inverse(points: NDArray[np.float32], kernel: Kernel, alpha: float) -> Matrix:
    """Return the ``(n, n)`` inverse of the kernel matrix of ``(n, d)`` points plus alpha."""
    inverse = _lower_inverse(_kernel_matrix(points, kernel).T, alpha)
    full: Matrix = np.tril(inverse)
    full += np.tril(inverse, -1).T
    return full


def left_out_by_folds(
    matrix: NDArray[np.float32],
    alpha: float,
    residuals: Sequence[NDArray[np.float32]],
    folds: Sequence[slice],
) -> NDArray[np.float32]:
    """Return what maps fitted without a fold leave of its residuals, from one inverse.

    With :math:`G = (K + \\lambda I)^{-1}`, that is :math:`G_{ff}^{-1} (G R)_f` for the rows f
    (Rasmussen and Williams 2006, section 5.4.2, by blocks). In float32: the least eigenvalue is
    alpha, beside which its rounding is small.

    Parameters
    ----------
    matrix
        ``(n, n)`` kernel values, of which the upper triangle is used; overwritten.
    residuals
        ``(n, d)`` of each fold's own prior.
    folds
        The rows of each.
    """
    import scipy.linalg as sl  # here, since loading it takes longer than all else

    inverse = _lower_inverse(matrix.T, alpha)
    left = np.empty_like(residuals[0])
    for rows, residual in zip(folds, residuals, strict=True):
        own = inverse[rows, rows].copy()
        np.copyto(own, own.T, where=~np.tri(len(own), dtype=np.bool_))
        weighed = own @ residual[rows]
        weighed += inverse[rows, : rows.start] @ residual[: rows.start]
        weighed += inverse[rows.stop :, rows].T @ residual[rows.stop :]
        left[rows] = sl.solve(own, weighed, assume_a="pos", check_finite=False)
    return left


def _lower_inverse(matrix: NDArray[Any], alpha: float) -> NDArray[Any]:
    """Return the inverse of a symmetric matrix plus alpha, right in its lower triangle only.

    Overwrites the matrix if that is in Fortran's order.
    """
    import scipy.linalg as sl

    matrix[np.diag_indices_from(matrix)] += alpha
    factorize, invert = sl.get_lapack_funcs(("potrf", "potri"), (matrix,))
    with one_thread_a_product() if len(matrix) < WORTH_THREADS else nullcontext():
        factor, failed = factorize(matrix, lower=True, clean=False, overwrite_a=True)
        if not failed:
            factor, failed = invert(factor, lower=True, overwrite_c=True)
    if failed:
        raise _no_map()
    inverse: NDArray[Any] = factor
    return inverse


def solve_exactly(
    points: NDArray[np.float32], residual: NDArray[np.floating], kernel: Kernel, alpha: float
) -> tuple[Matrix, Matrix]:
    """Solve ``(K + alpha I) C = R``, every anchor being a landmark.

    Leaving one out leaves :math:`c_i / G_{ii}` of its residual, G being the inverse.
    """
    inverse = regularized_inverse(points, kernel, alpha)
    coefficients = inverse @ residual
    return coefficients, coefficients / np.diag(inverse)[:, None]


def solve_by_landmarks(
    points: NDArray[np.floating],
    landmarks: NDArray[np.float32],
    residual: NDArray[np.floating],
    kernel: Kernel,
    alpha: float,
) -> tuple[Matrix, Matrix]:
    """Solve ``(Knm' Knm + alpha Kmm) C = Knm' R`` over ``(m, d)`` landmarks, in one pass.

    Leaving one out leaves its residual over one minus its leverage, which takes a second pass.
    """
    import scipy.linalg as sl

    evaluate, m = kernel.against(landmarks), len(landmarks)
    gram, cross = np.zeros((m, m)), np.zeros((m, residual.shape[1]))
    blocks = [slice(start, start + FITTING_ROWS) for start in range(0, len(points), FITTING_ROWS)]
    for rows in blocks:
        values = evaluate(points[rows])
        gram += values.T @ values
        cross += values.T @ residual[rows]
    gram += alpha * _kernel_matrix(landmarks, kernel)
    factor = _factor(gram)
    coefficients: Matrix = sl.cho_solve(factor, cross, check_finite=False)
    left_out = np.empty(residual.shape)
    for rows in blocks:
        block = evaluate(points[rows]).astype(np.float64)
        whitened = sl.solve_triangular(factor[0], block.T, lower=True, check_finite=False)
        freedom = np.maximum(1 - np.einsum("ij,ij->j", whitened, whitened), LEAST_FREEDOM)
        left_out[rows] = (residual[rows] - block @ coefficients) / freedom[:, None]
    return coefficients, left_out


def _kernel_matrix(points: NDArray[np.float32], kernel: Kernel) -> Matrix:
    matrix = kernel.against(points)(points).astype(np.float64)
    # Rounding leaves the product a little less than symmetric, which Cholesky takes amiss.
    return (matrix + matrix.T) / 2


def _factor(gram: Matrix) -> tuple[Matrix, bool]:
    """Factorise a sum of squares that near-coinciding landmarks leave singular to rounding."""
    import scipy.linalg as sl

    floor = float(np.trace(gram)) / len(gram)
    for jitter in (1e-6, 1e-5, 1e-4, 1e-3):
        lifted = gram.copy()
        lifted[np.diag_indices_from(lifted)] += jitter * floor
        with suppress(sl.LinAlgError):
            factor: tuple[Matrix, bool] = sl.cho_factor(
                lifted, lower=True, overwrite_a=True, check_finite=False
            )
            return factor
    raise _no_map()


def _no_map() -> InputError:
    return InputError(
        "the anchors leave no map to solve for", remedy="Give other anchors, not near-duplicates."
    )


ITERATIONS = 8
POINTS_PER_CENTROID = 100


def spread_rows(points: Vectors, size: int, seed: int) -> NDArray[np.intp]:
    """Return ``size`` rows of ``(n, d)`` float32 points that cover them, nearest to centroids.

    Spherical k-means (Dhillon and Modha 2001) by FAISS, the points being scaled to unit length;
    centroids that share their nearest point are made up for by rows drawn uniformly. Sorted.
    """
    import faiss

    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)
    kmeans = faiss.Kmeans(
        points.shape[1],
        size,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(unit)
    centroids = np.asarray(kmeans.centroids, dtype=np.float32)
    _, nearest = faiss.knn(centroids, unit, 1, metric=faiss.METRIC_INNER_PRODUCT)
    chosen = np.unique(nearest[:, 0])
    others = np.setdiff1d(np.arange(len(points)), chosen)
    fill = np.random.default_rng(seed).permutation(others)[: size - len(chosen)]
    return np.sort(np.concatenate([chosen, fill]))
