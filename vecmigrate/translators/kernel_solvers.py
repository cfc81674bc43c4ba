"""The linear systems of kernel ridge regression, in float64.

All take points already scaled, and return coefficients with the residuals that are left when each
anchor in turn is left out. SciPy is imported where it is used: it takes longer to load than all
else here.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import InputError
from vecmigrate.translators.base import FITTING_ROWS
from vecmigrate.translators.kernels import Kernel

LEAST_FREEDOM = 0.05
"""An anchor's leverage is kept this far below 1, where rounding would divide by nothing."""

Matrix = NDArray[np.float64]


def regularized_inverse(points: NDArray[np.float32], kernel: Kernel, alpha: float) -> Matrix:
    """Return the ``(n, n)`` inverse of the kernel matrix of ``(n, d)`` points plus alpha."""
    import scipy.linalg as sl

    matrix = _kernel_matrix(points, kernel)
    matrix[np.diag_indices_from(matrix)] += alpha
    factor = sl.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = sl.lapack.dpotri(factor, lower=True, overwrite_c=True)
    full: Matrix = np.tril(inverse)
    full += np.tril(inverse, -1).T
    return full


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

    evaluator = kernel.against(landmarks)
    m = len(evaluator)
    gram, cross = np.zeros((m, m)), np.zeros((m, residual.shape[1]))
    blocks = [slice(start, start + FITTING_ROWS) for start in range(0, len(points), FITTING_ROWS)]
    for rows in blocks:
        values = evaluator.evaluate(points[rows])
        gram += values.T @ values
        cross += values.T @ residual[rows]
    gram += alpha * _kernel_matrix(landmarks, kernel)
    factor = _factor(gram)
    coefficients: Matrix = sl.cho_solve(factor, cross, check_finite=False)
    left_out = np.empty(residual.shape)
    for rows in blocks:
        block = evaluator.evaluate(points[rows]).astype(np.float64)
        whitened = sl.solve_triangular(factor[0], block.T, lower=True, check_finite=False)
        freedom = np.maximum(1 - np.einsum("ij,ij->j", whitened, whitened), LEAST_FREEDOM)
        left_out[rows] = (residual[rows] - block @ coefficients) / freedom[:, None]
    return coefficients, left_out


def _kernel_matrix(points: NDArray[np.float32], kernel: Kernel) -> Matrix:
    matrix = kernel.against(points).evaluate(points).astype(np.float64)
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
    raise InputError(
        "the anchors leave no map to solve for", remedy="Give other anchors, not near-duplicates."
    )
