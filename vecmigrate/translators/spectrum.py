"""Gives back to translated vectors the spread that regression takes from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-4
"""Variances are compared above this share of the largest, below which they are noise."""


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
    truth = np.asarray(true, dtype=np.float64)
    centre = truth.mean(axis=0)
    deviations = truth - centre
    variances, axes = np.linalg.eigh(deviations.T @ deviations / len(truth))
    found = ((np.asarray(predicted, np.float64) - np.mean(predicted, axis=0)) @ axes) ** 2
    floor = FLOOR * max(float(variances[-1]), np.finfo(np.float64).tiny)
    gains = np.sqrt((np.maximum(variances, 0) + floor) / (found.mean(axis=0) + floor))
    return (axes * np.maximum(gains, 1)) @ axes.T, centre
