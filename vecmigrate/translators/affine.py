"""Translators that are one matrix and one offset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors, normalize_rows
from vecmigrate.translators.base import Translator, check_dimension


class AffineTranslator(Translator):
    """``transform(X) = X @ weights_ + offset_``, one matrix product a batch.

    Attributes
    ----------
    weights_ : (source_dim, target_dim) float32
    offset_ : (target_dim,) float32
    """

    weights_: NDArray[np.float32]
    offset_: NDArray[np.float32]

    def _set_map(
        self, weights: NDArray[np.floating], offset: NDArray[np.floating], n_anchors: int
    ) -> None:
        self.weights_ = np.ascontiguousarray(weights, dtype=np.float32)
        self.offset_ = np.ascontiguousarray(offset, dtype=np.float32)
        self.source_dim_, self.target_dim_ = self.weights_.shape
        self.n_anchors_ = n_anchors

    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        """See :meth:`Translator.transform`."""
        check_dimension(X, self.source_dim_)
        translated: Vectors = np.matmul(X, self.weights_, out=out)
        translated += self.offset_
        if self.normalize_output_:
            normalize_rows(translated)
        return translated

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """See :meth:`Translator.state`."""
        return (
            {"weights": self.weights_, "offset": self.offset_},
            {"n_anchors": self.n_anchors_, "normalize_output": self.normalize_output_},
        )

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Self:
        """See :meth:`Translator.from_state`."""
        weights, offset = tensors["weights"], tensors["offset"]
        if weights.ndim != 2 or offset.shape != weights.shape[1:]:
            raise ValueError(f"weights {weights.shape} and offset {offset.shape} do not fit")
        translator = cls()
        translator._set_map(weights, offset, int(parameters["n_anchors"]))
        translator.normalize_output_ = bool(parameters["normalize_output"])
        return translator
