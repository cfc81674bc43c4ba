"""Orthogonal Procrustes: the rotation that best turns one space into the other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from vecmigrate.errors import InputError
from vecmigrate.points.batch import Vectors, are_unit_length
from vecmigrate.runtime.threads import one_thread_a_product
from vecmigrate.translators.base import AffineTranslator, check_anchors
from vecmigrate.translators.folds import Folds, moments_without
from vecmigrate.translators.moments import FITTING_ROWS, PairMoments


class FewAnchorsWarning(UserWarning):
    """Fewer anchors than dimensions: part of the map is a guess."""


@dataclass(kw_only=True, eq=False)
class Procrustes(AffineTranslator):
    r"""Orthogonal Procrustes in closed form.

    With ``X``, ``Y`` centred and :math:`X^T Y = U S V^T` (thin SVD), the map is

    .. math:: y = s\,(x - \bar x)\,R + \bar y, \quad R = U V^T, \quad
              s = \operatorname{tr}(S) / \lVert X R \rVert_F^2

    (Schönemann 1966 for square R; Gower and Dijksterhuis 2004 for the scale; Maiorca et al. 2023
    for latent spaces of encoders).

    If the dimensions differ, R is the semi-orthogonal factor above: with ``d_x <= d_y`` its rows
    are orthonormal, with ``d_x > d_y`` its columns. That is the solution of the square problem
    after padding the smaller space with zeros, as Maiorca et al. do, cut back to ``d_y`` columns;
    it maximises :math:`\operatorname{tr}(R^T X^T Y)` among semi-orthogonal matrices.

    Parameters
    ----------
    center : bool
        Subtract and add back the anchors' means; False maps the origin to the origin.
    scale : bool
        Fit s by least squares; False keeps s = 1.
    normalize : bool or None
        Scale translated vectors to unit length. None does so if all target anchors have it.

    Attributes
    ----------
    rotation_ : (source_dim, target_dim) float64
        R.
    scale_ : float
        s.
    weights_, offset_
        The same map as one float32 product, see :class:`AffineTranslator`.

    Examples
    --------
    >>> import numpy as np
    >>> from vecmigrate import Procrustes
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 8)).astype(np.float32)
    >>> rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    >>> translated = Procrustes().fit(X, X @ rotation).transform(X)
    >>> bool(np.allclose(translated, X @ rotation, atol=1e-5))
    True
    """

    method: ClassVar[str] = "procrustes"
    rank: ClassVar[int] = 0

    center: bool = True
    scale: bool = True
    normalize: bool | None = None
    _moments: PairMoments | None = field(default=None, init=False, repr=False)

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """See :meth:`Translator.fit`. Warns if anchors are fewer than dimensions."""
        self._moments = None
        return self.partial_fit(X, Y)

    def partial_fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit on these anchors and those of earlier calls, as if given at once."""
        x, y = check_anchors(X, Y, at_least=1 if self._moments else 2)
        if self._moments is None:
            self._moments = PairMoments.empty(x.shape[1], y.shape[1])
            self._targets_are_unit = True
        moments = self._moments
        if (x.shape[1], y.shape[1]) != moments.xy.shape:
            raise InputError(
                f"anchors of {x.shape[1]} and {y.shape[1]} dimensions after "
                f"{moments.xy.shape[0]} and {moments.xy.shape[1]}",
                remedy="All anchors must come from the same two encoders.",
            )
        moments.update(x, y)
        self._targets_are_unit = self._targets_are_unit and all(
            are_unit_length(y[start : start + FITTING_ROWS])
            for start in range(0, len(y), FITTING_ROWS)
        )
        self.normalize_output_ = (
            self._targets_are_unit if self.normalize is None else self.normalize
        )
        self._solve(moments)
        return self

    def cross_predict(self, folds: Folds) -> Vectors:
        """See :meth:`Translator.cross_predict`."""
        if not (self.center and self.scale) or type(self).fit is not Procrustes.fit:
            return super().cross_predict(folds)
        predicted = np.empty(folds.targets.shape, np.float32)
        for rows, free in zip(folds.rows, folds.once(fold_maps), strict=True):
            free.transform(folds.vectors[rows], out=predicted[rows])
        return folds.finish(predicted, self.normalize)

    def _solve(self, moments: PairMoments) -> None:
        d_x, d_y = moments.xy.shape
        if moments.count < min(d_x, d_y):
            warnings.warn(
                f"{moments.count} anchors for spaces of {d_x} and {d_y} dimensions leave part of "
                f"the rotation undetermined; draw at least {min(d_x, d_y)}",
                FewAnchorsWarning,
                stacklevel=4,
            )
        xx, xy = moments.xx, moments.xy
        mean_x, mean_y = moments.mean_x, moments.mean_y
        if not self.center:
            xx = xx + moments.count * np.outer(mean_x, mean_x)
            xy = xy + moments.count * np.outer(mean_x, mean_y)
            mean_x, mean_y = np.zeros(d_x), np.zeros(d_y)
        with one_thread_a_product():
            u, singular, vt = np.linalg.svd(xy, full_matrices=False)
        self.rotation_ = u @ vt
        self.scale_ = 1.0
        if self.scale:
            spread = float(np.vdot(self.rotation_, xx @ self.rotation_))
            # Anchors that are all alike say nothing of the scale, and 0/0 must not become the map.
            if spread > 0 and singular.sum() > 0:
                self.scale_ = float(singular.sum()) / spread
        weights = self.scale_ * self.rotation_
        self._set_map(weights, mean_y - mean_x @ weights, moments.count)


def fold_maps(folds: Folds) -> list[Procrustes]:
    """Return the map that is fitted without each fold; lengths of translations are left free."""
    maps = []
    for moments in folds.once(moments_without):
        fitted = Procrustes(normalize=False)
        fitted.normalize_output_ = False
        fitted._solve(moments)
        maps.append(fitted)
    return maps
