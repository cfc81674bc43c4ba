"""Kernel ridge regression on what Procrustes leaves over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecmigrate.points.batch import Vectors, are_unit_length, normalize_rows, row_norms
from vecmigrate.translators.base import Translator, check_anchors, check_dimension
from vecmigrate.translators.folds import Folds, moments_without, spreads_without
from vecmigrate.translators.kernels import (
    GaussianLandmarks,
    Kernel,
    left_out_by_folds,
    solve_by_landmarks,
    solve_exactly,
    spread_rows,
)
from vecmigrate.translators.mixing import spectral_match
from vecmigrate.translators.procrustes import Procrustes, fold_maps
from vecmigrate.translators.sphere import mean_direction, put_on_sphere, regression_slope

BLOCK_ROWS = 1024
"""Rows translated at a time: their kernel values stay in the processor's cache."""

EXACT_ANCHORS = 12_000
"""Up to here every anchor is a landmark; beyond, landmarks are chosen among them."""

LANDMARKS = 6_000


@dataclass(kw_only=True, eq=False)
class KernelRidge(Translator):
    r"""Kernel ridge regression with a Procrustes prior and spectral matching.

    With :math:`P` the centred Procrustes map, :math:`k` the Gaussian kernel over vectors scaled to
    unit mean distance from their mean, and :math:`z_1 \dots z_m` the landmarks,

    .. math:: f(x) = t\,P(x) + \sum_j k(x, z_j)\, c_j

    Up to ``EXACT_ANCHORS`` anchors, all are landmarks and
    :math:`C = (K + \lambda I)^{-1} (Y - t P(X))`, the posterior mean of a Gaussian process with
    mean :math:`tP` (Rasmussen and Williams 2006, ch. 2). Beyond, :math:`C` solves
    :math:`(K_{nm}^T K_{nm} + \lambda K_{mm}) C = K_{nm}^T (Y - t P(X))` over ``landmarks`` of them
    (Nyström, subset of regressors: Smola and Schölkopf 2000; Rudi et al. 2015), summed in one pass.
    The prediction is then spectrally matched, see :func:`spectral_match`, by its leave-one-out
    predictions; as that is an affine map, it costs nothing when translating. Where vectors have
    unit length, so get predictions, beside their component along the mean: see
    :func:`put_on_sphere`. That component is scaled by the slope of the true ones over leave-one-out
    predictions.

    With ``text_dim``, the last so many columns of X are features s of the points' texts (see
    :class:`TokenFeatures`), and the kernel is :math:`k(x, z) + w\,s(x) \cdot s(z)`; its second part
    makes a linear map of the features, whatever the number of landmarks.

    Parameters
    ----------
    gamma : float
        Inverse squared length scale, for vectors of unit mean distance from their mean.
    alpha : float
        λ, the noise variance beside the kernel's k(x, x) = 1.
    prior : float
        t, the share of the Procrustes map in the prior mean.
    match_spectrum : bool
        False leaves the shrunken spread of regression.
    restore_length : bool
        False scales predictions to unit length as they are, shrunken towards the mean.
    landmarks : int or None
        Landmarks beyond ``EXACT_ANCHORS``; given, they are used at any number of anchors above it.
    normalize : bool or None
        As in :class:`Procrustes`.
    seed : int
        Of the choice of landmarks.
    text_dim : int
        Columns of X that are features of texts; the others are the old vector.
    text_weight : float
        w, for features of unit length.

    Attributes
    ----------
    landmarks_ : (m, source_dim) float32
    coefficients_ : (m, target_dim) float32
    weights_, offset_
        The linear part, ``(source_dim + text_dim, target_dim)`` and ``(target_dim,)`` float32.
    scale_ : float32
        What brings old vectors to unit mean distance from their mean.
    restores_ : bool
        True if lengths are restored beside the mean.
    """

    method: ClassVar[str] = "kernel-ridge"
    rank: ClassVar[int] = 2
    arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "landmarks": ("landmarks", "source"),
        "coefficients": ("landmarks", "target"),
        "weights": ("columns", "target"),
        "offset": ("target",),
        "gain": ("target", "target"),
        "centre": ("target",),
    }
    kept: ClassVar[tuple[str, ...]] = (
        "gamma",
        "alpha",
        "prior",
        "match_spectrum",
        "seed",
        "text_dim",
        "text_weight",
    )
    fitted: ClassVar[Mapping[str, type]] = {
        "scale": np.float32,
        "mean_square": float,
        **Translator.fitted,
    }
    tells_variance: ClassVar[bool] = True
    reads_texts: ClassVar[bool] = True

    gamma: float = 1.0
    alpha: float = 0.08
    prior: float = 0.75
    match_spectrum: bool = True
    restore_length: bool = True
    landmarks: int | None = None
    normalize: bool | None = None
    seed: int = 0
    text_dim: int = 0
    text_weight: float = 0.5
    restores_: bool = field(default=False, init=False, repr=False)

    @classmethod
    def candidates(cls, text_dim: int) -> dict[str, Self]:
        """See :meth:`Translator.candidates`.

        Features take the place of the length scales and noise levels without them, of which only
        the default stays.
        """
        grid = [cls(gamma=g, alpha=a) for g in (0.5, 1.0, 1.5) for a in (0.03, 0.08, 0.2)]
        if text_dim:
            grid = [cls(), *(replace(each, text_dim=text_dim) for each in grid)]
        return {
            f"kernel ridge, gamma {each.gamma}, alpha {each.alpha}"
            f"{', with texts' if each.text_dim else ''}": each
            for each in grid
        }

    @classmethod
    def for_texts(cls, text_dim: int) -> Self:
        """See :meth:`Translator.for_texts`."""
        return cls(text_dim=text_dim)

    def arranged(self, seed: int, landmarks: int | None) -> Self:
        """See :meth:`Translator.arranged`."""
        return replace(self, seed=seed, landmarks=landmarks)

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """See :meth:`Translator.fit`. Warns if anchors are fewer than dimensions."""
        x, y = check_anchors(X, Y)
        self.n_anchors_, self.source_dim_ = len(x), x.shape[1] - self.text_dim
        self.text_dim_ = self.text_dim
        self.target_dim_ = y.shape[1]
        self.normalize_output_ = are_unit_length(y) if self.normalize is None else self.normalize
        old, _ = self._as_given.split(x)
        self.scale_ = _unit_scale(old)
        linear = Procrustes(normalize=False).fit(old, y)
        residual = y - self.prior * linear.transform(np.ascontiguousarray(old, dtype=np.float32))
        points = self._scaled(x)
        chosen = self._landmark_rows(points)
        landmarks = points[chosen]
        if len(chosen) == len(x):
            coefficients, left_out = solve_exactly(points, residual, self._as_given, self.alpha)
        else:
            coefficients, left_out = solve_by_landmarks(
                points, landmarks, residual, self._as_given, self.alpha
            )
        scaled, features = self._as_given.split(landmarks)
        self.landmarks_ = np.ascontiguousarray(scaled / self.scale_, dtype=np.float32)
        of_texts = self.text_weight * (features.T @ coefficients)
        weights = np.concatenate([self.prior * linear.weights_, of_texts])
        offset = self.prior * linear.offset_
        held_out = y - left_out
        gain, centre = np.eye(self.target_dim_), y.mean(axis=0, dtype=np.float64)
        if self.match_spectrum:
            gain, centre = spectral_match(held_out, y)
        self.restores_ = self.restore_length and self.normalize_output_
        if self.restores_:
            gain = _sparing(gain, mean_direction(centre), held_out, y)
        self.gain_, self.centre_ = gain.astype(np.float32), centre.astype(np.float32)
        self.coefficients_ = (coefficients @ gain).astype(np.float32)
        self.weights_ = (weights @ gain).astype(np.float32)
        self.offset_ = (offset @ gain + centre - centre @ gain).astype(np.float32)
        self.mean_square_ = float(np.mean(row_norms(y).astype(np.float64) ** 2))
        self._prepare()
        self.held_out_ = np.ascontiguousarray((held_out - centre) @ gain, dtype=np.float32)
        self.held_out_ += self.centre_ - self._later
        self._finish(self.held_out_)
        return self

    def _landmark_rows(self, points: Vectors) -> NDArray[np.intp]:
        if len(points) <= (self.landmarks or EXACT_ANCHORS):
            return np.arange(len(points))
        return spread_rows(points, self.landmarks or LANDMARKS, self.seed)

    def cross_predict(self, folds: Folds) -> Vectors:
        """See :meth:`Translator.cross_predict`; what is left out is measured on the fold itself."""
        matrix = np.float32(self.gamma) * folds.once(_minus_squared_distances)
        np.exp(matrix, out=matrix)
        if self.text_dim:
            matrix += np.float32(self.text_weight) * folds.once(_feature_products)
        share = np.float32(self.prior)
        residuals = [folds.targets - share * linear for linear in folds.once(_priors)]
        predicted = folds.targets - left_out_by_folds(matrix, self.alpha, residuals, folds.rows)
        centres = folds.once(_centres_without)
        predicted -= centres
        matched = self._matched(folds, predicted) if self.match_spectrum else predicted
        if not (self.restore_length and folds.normalizes(self.normalize)):
            matched += centres
            return folds.finish(matched, self.normalize)
        directions = [mean_direction(moments.mean_y) for moments in folds.once(moments_without)]
        pairs = list(zip(folds.rows, directions, strict=True))
        along = np.concatenate([predicted[rows] @ direction for rows, direction in pairs])
        true = np.concatenate([folds.targets[rows] @ direction for rows, direction in pairs])
        along *= np.float32(regression_slope(along, true))
        for rows, direction in pairs:
            own = matched[rows]
            own += (along[rows] - own @ direction)[:, None] * direction
            put_on_sphere(own, centres[rows.start], direction)
        return matched

    def _matched(self, folds: Folds, deviations: Vectors) -> Vectors:
        """Match each fold's predictions beside the centre to the spread of the others' targets."""
        matched = np.empty_like(deviations)
        for rows, spread in zip(folds.rows, folds.once(spreads_without), strict=True):
            along = deviations[rows] @ spread.axes
            np.matmul(spread.gains(along) * along, spread.axes.T, out=matched[rows])
        return matched

    @property
    def _as_given(self) -> Kernel:
        return Kernel(self.gamma, self.text_dim, self.text_weight)

    def _scaled(self, X: NDArray[np.floating]) -> Vectors:
        """Rows whose vectors, without the features of texts, have unit mean length."""
        points = np.array(X, dtype=np.float32, order="C")
        points[:, : points.shape[1] - self.text_dim] *= self.scale_
        return points

    def _prepare(self) -> None:
        self._kernel = GaussianLandmarks(self.gamma, self.scale_ * self.landmarks_)
        self._direction = mean_direction(self.centre_)
        # What is put on the sphere is predicted beside the centre.
        self._later = self.centre_ if self.restores_ else np.zeros_like(self.centre_)
        self._first = self.offset_ - self._later

    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        """See :meth:`Translator.transform`."""
        check_dimension(X, self.source_dim_ + self.text_dim_)
        translated = np.empty((len(X), self.target_dim_), np.float32) if out is None else out
        for rows in _blocks(len(X)):
            self._predict(X[rows], translated[rows])
            self._finish(translated[rows])
        return translated

    def transform_with_variance(self, X: Vectors) -> tuple[Vectors, NDArray[np.float32]]:
        r"""Return translations and their ``(n,)`` float32 predictive variances.

        Target vectors have mean squared length :math:`\overline{|y|^2}` (1 if they are unit
        vectors), which the posterior splits into that of its mean and its variance over all
        directions: :math:`\overline{|y|^2} - |f(x)|^2`, at least 0. It tells more than the
        kernel's own variance, which depends on where anchors lie and not on what they said.
        """
        check_dimension(X, self.source_dim_ + self.text_dim_)
        translated = np.empty((len(X), self.target_dim_), np.float32)
        variance = np.empty(len(X), np.float32)
        shrink = np.linalg.inv(self.gain_.astype(np.float64)).astype(np.float32)
        for rows in _blocks(len(X)):
            self._predict(X[rows], translated[rows])
            beside = translated[rows] + (self._later - self.centre_)
            shrunken = beside @ shrink + self.centre_
            variance[rows] = np.maximum(self.mean_square_ - row_norms(shrunken) ** 2, 0)
            self._finish(translated[rows])
        return translated, variance

    def _predict(self, rows: Vectors, out: Vectors) -> None:
        """Write predictions, without what :meth:`_finish` does to them."""
        np.matmul(
            self._kernel.evaluate(self.scale_ * rows[:, : self.source_dim_]),
            self.coefficients_,
            out=out,
        )
        out += rows @ self.weights_
        out += self._first

    def _finish(self, predicted: Vectors) -> None:
        """Turn what :meth:`_predict` wrote into translations, in place."""
        if self.restores_:
            put_on_sphere(predicted, self.centre_, self._direction)
        elif self.normalize_output_:
            normalize_rows(predicted)

    @property
    def tolerance(self) -> float:
        """See :meth:`Translator.tolerance`; restoring a short length restores its rounding, too."""
        return 10 * super().tolerance if self.restores_ else super().tolerance

    @property
    def file_format(self) -> int:
        """See :meth:`Translator.file_format`."""
        return 2 if self.restores_ else 1

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """See :meth:`Translator.state`."""
        tensors, parameters = super().state()
        if self.restores_:
            parameters["restore_length"] = True
        return tensors, parameters

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Self:
        """See :meth:`Translator.from_state`."""
        # Files from before there were features of texts have neither parameter of theirs.
        without = {"text_dim": cls.text_dim, "text_weight": cls.text_weight}
        translator = super().from_state(tensors, without | dict(parameters))
        translator.text_dim_ = translator.text_dim
        # As files from before lengths were restored, others say nothing of it.
        translator.restore_length = translator.restores_ = "restore_length" in parameters
        if len(translator.weights_) != translator.source_dim_ + translator.text_dim_:
            raise ValueError(f"{len(translator.weights_)} columns of weights do not fit landmarks")
        translator._prepare()
        return translator


def _sparing(
    gain: NDArray[np.float64],
    direction: NDArray[np.float32],
    held_out: NDArray[np.float64],
    true: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Return a gain that scales the component along the mean by its regression slope alone."""
    slope = regression_slope(held_out @ direction, true @ direction)
    return gain + np.outer(slope * direction - gain @ direction, direction)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS))


SAME = 1e-6
"""Vectors that differ by less of their length are alike but for rounding."""


def _unit_scale(x: NDArray[np.floating]) -> np.float32:
    length, apart = (float(row_norms(each).mean()) for each in (x, x - x.mean(axis=0)))
    mean = apart if apart > SAME * length else length
    return np.float32(1 / mean) if mean > 0 else np.float32(1)


def _minus_squared_distances(folds: Folds) -> Vectors:
    points = folds.vectors * _unit_scale(folds.vectors)
    return GaussianLandmarks(1.0, points).exponents(points)


def _feature_products(folds: Folds) -> Vectors:
    products: Vectors = folds.features @ folds.features.T
    return products


def _priors(folds: Folds) -> list[Vectors]:
    """Return all anchors as translated by the Procrustes map without each fold."""
    return [linear.transform(folds.vectors) for linear in folds.once(fold_maps)]


def _centres_without(folds: Folds) -> Vectors:
    """Return ``(n, target_dim)``: for each row, the mean of the targets outside its fold."""
    centres = np.empty_like(folds.targets)
    for rows, moments in zip(folds.rows, folds.once(moments_without), strict=True):
        centres[rows] = moments.mean_y
    return centres
