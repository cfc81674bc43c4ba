"""Affine ridge regression, its regularisation chosen in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecmigrate.points.batch import Vectors, are_unit_length
from vecmigrate.runtime.threads import one_thread_a_product
from vecmigrate.translators.base import AffineTranslator, check_anchors
from vecmigrate.translators.folds import Folds, moments_without, spreads_without
from vecmigrate.translators.mixing import spectral_match
from vecmigrate.translators.moments import FITTING_ROWS, PairMoments

Matrix = NDArray[np.float64]

GRID = np.logspace(-6, 2, 33)
"""Candidates for alpha, in units of the mean variance of an anchor's component."""


@dataclass(kw_only=True, eq=False)
class Ridge(AffineTranslator):
    r"""Ridge regression of centred targets on centred sources (Hoerl and Kennard 1970).

    .. math:: W = (X^T X + n \alpha \bar w I)^{-1} X^T Y

    with :math:`\bar w` the mean variance of a component. Where alpha is not given, it minimises the
    generalised cross-validation score (Golub, Heath and Wahba 1979),
    :math:`n\,\mathrm{RSS}(\alpha) / (n - \mathrm{df}(\alpha))^2`, which one eigendecomposition
    gives for all candidates. Predictions are spectrally matched, see :func:`spectral_match`.

    Parameters
    ----------
    alpha : float or None
    match_spectrum : bool
        False leaves the shrunken spread of regression.
    normalize : bool or None
        As in :class:`Procrustes`.

    Attributes
    ----------
    alpha_ : float
        The regularisation used.
    weights_, offset_
        See :class:`AffineTranslator`.
    """

    method: ClassVar[str] = "ridge"
    rank: ClassVar[int] = 1

    alpha: float | None = None
    match_spectrum: bool = True
    normalize: bool | None = None

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """See :meth:`Translator.fit`."""
        x, y = check_anchors(X, Y)
        self.normalize_output_ = are_unit_length(y) if self.normalize is None else self.normalize
        moments = PairMoments.of(x, y)
        weights, offset, axes, damped = self._solve(moments)
        if self.match_spectrum:
            left_out = _left_out(x, y, weights, offset, moments.mean_x, axes, damped)
            gain, centre = spectral_match(y - left_out, y)
            weights, offset = weights @ gain, (offset - centre) @ gain + centre
        self._set_map(weights, offset, len(x))
        return self

    def cross_predict(self, folds: Folds) -> Vectors:
        """See :meth:`Translator.cross_predict`."""
        if type(self).fit is not Ridge.fit:
            return super().cross_predict(folds)
        predicted = np.empty(folds.targets.shape, np.float32)
        for f, moments in enumerate(folds.once(moments_without)):
            rows, others = folds.rows[f], folds.others[f]
            weights, offset, axes, damped = self._solve(moments)
            found = (folds.vectors[rows] @ weights + offset).astype(np.float32)
            if self.match_spectrum:
                x, y = folds.vectors[others], folds.targets[others]
                left_out = _left_out(x, y, weights, offset, moments.mean_x, axes, damped)
                spread = folds.once(spreads_without)[f]
                gains = spread.gains(spread.along(y - left_out.astype(np.float32)))
                found = spread.vectors(gains * spread.along(found))
            predicted[rows] = found
        return folds.finish(predicted, self.normalize)

    def _solve(self, moments: PairMoments) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        """Return weights, offset, the axes of the sources, and their damped variances."""
        with one_thread_a_product():
            eigenvalues, axes = np.linalg.eigh(moments.xx)
        eigenvalues = np.maximum(eigenvalues, 0)
        projected = axes.T @ moments.xy
        # Anchors that are all alike leave nothing but rounding, which is not to be blown up.
        rounding = (
            np.finfo(np.float32).eps ** 2 * moments.count * float(moments.mean_x @ moments.mean_x)
        )
        unit = float(max(eigenvalues.mean(), rounding)) or 1.0
        if self.alpha is None:
            self.alpha_ = _least_gcv(eigenvalues, projected, unit, moments)
        else:
            self.alpha_ = self.alpha
        damped = eigenvalues + self.alpha_ * unit
        weights = axes @ (projected / damped[:, None])
        offset = moments.mean_y - moments.mean_x @ weights
        return weights, offset, axes, damped


def _least_gcv(
    eigenvalues: NDArray[np.float64],
    projected: NDArray[np.float64],
    unit: float,
    moments: PairMoments,
) -> float:
    n = moments.count
    energy = np.einsum("ij,ij->i", projected, projected)
    scores = []
    for alpha in GRID:
        damped = eigenvalues + alpha * unit
        residual = moments.yy - float(np.sum(energy * (damped + alpha * unit) / damped**2))
        free = n - 1 - float(np.sum(eigenvalues / damped))
        scores.append(n * max(residual, 0.0) / free**2 if free > 0 else np.inf)
    return float(GRID[int(np.argmin(scores))])


def _left_out(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    weights: NDArray[np.float64],
    offset: NDArray[np.float64],
    mean: NDArray[np.float64],
    axes: NDArray[np.float64],
    damped: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Residuals with each anchor left out: the residual over one minus the leverage."""
    left = np.empty(y.shape, np.float64)
    for start in range(0, len(x), FITTING_ROWS):
        rows = slice(start, start + FITTING_ROWS)
        scores = (np.asarray(x[rows], np.float64) - mean) @ axes
        leverage = 1 / len(x) + np.einsum("ij,j,ij->i", scores, 1 / damped, scores)
        residual = y[rows] - (x[rows] @ weights + offset)
        left[rows] = residual / np.maximum(1 - leverage, 0.05)[:, None]
    return left
