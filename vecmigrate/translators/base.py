"""What every translator is: an estimator with ``fit`` and ``transform``."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecmigrate.errors import InputError, MismatchError
from vecmigrate.points.batch import Vectors
from vecmigrate.translators.token_features import TokenFeatures

FITTING_ROWS = 4096
"""Rows converted to float64 at a time, so that fitting does not hold the anchors a second time."""


class Translator(ABC):
    """A map from a source encoder's space to a target encoder's.

    Attributes
    ----------
    tells_variance : bool
        True for methods that :meth:`transform_with_variance` works for.
    source_dim_, target_dim_ : int
        Dimensions of the two spaces.
    text_dim_ : int
        Features of a point's text that :meth:`transform` takes after its vector; mostly 0.
    text_features_ : TokenFeatures or None
        What makes them.
    n_anchors_ : int
        Pairs that the map was fitted on.
    normalize_output_ : bool
        True where translated vectors are scaled to unit length.
    held_out_ : (n_anchors, target_dim) float32 or None
        Each anchor as a map without it translates it, where the method gives that for free; not
        kept in a file.
    """

    method: ClassVar[str]
    tells_variance: ClassVar[bool] = False

    source_dim_: int
    target_dim_: int
    n_anchors_: int
    normalize_output_: bool
    held_out_: Vectors | None = None
    text_dim_: int = 0
    text_features_: TokenFeatures | None = None

    @abstractmethod
    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Fit the map on anchors.

        Parameters
        ----------
        X, Y
            ``(n, source_dim)`` and ``(n, target_dim)``, any float dtype, row i of both being the
            same text under the two encoders. May be memory-mapped.

        Raises
        ------
        InputError
            Where the shapes do not fit, a value is not finite or there are too few anchors.
        """

    def cross_predict(
        self, X: NDArray[np.floating], Y: NDArray[np.floating], fold: NDArray[np.intp]
    ) -> Vectors:
        """Return each anchor's translation by a map that was fitted without its fold.

        Parameters
        ----------
        fold
            ``(n,)``: the fold of each of the ``(n, d)`` anchors.
        """
        predicted = np.empty(Y.shape, np.float32)
        for f in np.unique(fold):
            held_out = fold == f
            fitted = copy.copy(self).fit(X[~held_out], Y[~held_out])
            rows = np.ascontiguousarray(X[held_out], dtype=np.float32)
            predicted[held_out] = fitted.transform(rows)
        return predicted

    def inputs(self, vectors: Vectors, texts: Sequence[str | None] | None) -> Vectors:
        """Return what :meth:`fit` and :meth:`transform` take for points.

        Parameters
        ----------
        vectors
            ``(n, source_dim)`` of the old encoder.
        texts
            Of the same points; read only where ``text_features_`` is there.

        Raises
        ------
        MismatchError
            Where texts are needed and None is given.
        """
        if self.text_features_ is None:
            return vectors
        if texts is None:
            raise MismatchError(
                "this translator reads the points' texts, and there are none",
                remedy="Use a source with texts, or fit a translator without --texts.",
            )
        return np.concatenate([vectors, self.text_features_.transform(texts)], axis=1)

    @abstractmethod
    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        """Return the ``(n, target_dim)`` float32 C-contiguous translations of ``(n, source_dim)``.

        Where ``text_dim_`` is not 0, X is what :meth:`inputs` returns.

        Parameters
        ----------
        out
            Where to write them, of the result's shape and dtype.

        Raises
        ------
        MismatchError
            Where the dimension of ``X`` is not the map's.
        """

    def transform_with_variance(self, X: Vectors) -> tuple[Vectors, NDArray[np.float32]]:
        """Return translations and their ``(n,)`` float32 predictive variances.

        Raises
        ------
        MismatchError
            Where the method tells none, as all but kernel ridge.
        """
        raise MismatchError(
            f"a translator of method {self.method} tells no variance",
            remedy="Fit one with --method kernel-ridge.",
        )

    @abstractmethod
    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what :meth:`from_state` needs: tensors, and JSON-like parameters."""

    @classmethod
    @abstractmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Self:
        """Rebuild a fitted translator; ValueError or KeyError where the state is not one."""


def check_anchors(
    X: ArrayLike, Y: ArrayLike, *, at_least: int = 2
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Validate the arguments of ``fit`` and return them as arrays, not copied where they are.

    Raises
    ------
    InputError
    """
    pair = []
    for name, given in (("source", X), ("target", Y)):
        array = np.asanyarray(given)
        if array.ndim != 2 or array.shape[1] == 0 or not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                f"{name} vectors must be an (n, d) array of floats, not {array.dtype} "
                f"of shape {array.shape}",
                remedy="Give one row a vector.",
            )
        for start in range(0, len(array), FITTING_ROWS):
            finite = np.isfinite(array[start : start + FITTING_ROWS]).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise InputError(
                    f"row {row} of the {name} vectors is not finite", remedy="Leave that row out."
                )
        pair.append(array)
    if len(pair[0]) != len(pair[1]):
        raise InputError(
            f"{len(pair[0])} source vectors and {len(pair[1])} target vectors do not pair",
            remedy="Row i of both must be the same text.",
        )
    if len(pair[0]) < at_least:
        raise InputError(f"{len(pair[0])} anchors are too few", remedy=f"Give at least {at_least}.")
    return pair[0], pair[1]


def check_dimension(X: Vectors, source_dim: int) -> None:
    """Raise :class:`MismatchError` unless ``X`` is ``(n, source_dim)``."""
    if X.ndim != 2 or X.shape[1] != source_dim:
        raise MismatchError(
            f"vectors of shape {X.shape} for a translator of {source_dim} dimensions",
            remedy="Use the translator that was fitted for this collection's encoder.",
        )
