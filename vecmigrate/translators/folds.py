"""Anchors in folds, and what maps fitted without each of the folds have in common."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors, are_unit_length, normalize_rows
from vecmigrate.translators.mixing import Spread
from vecmigrate.translators.moments import PairMoments

Made = TypeVar("Made")


class Folds:
    """Anchors that maps are cross-validated on, ordered by their folds.

    Parameters
    ----------
    X, Y
        ``(n, source_dim + text_dim)`` and ``(n, target_dim)`` anchors.
    fold
        ``(n,)``: the fold of each; at least two.
    text_dim
        Columns of X, the last ones, that are features of texts.

    Attributes
    ----------
    vectors, features, targets
        ``(n, source_dim)``, ``(n, text_dim)`` and ``(n, target_dim)`` float32, fold by fold.
    rows
        The rows of each fold there.
    others
        ``(m,)`` for each fold: the rows outside it.
    """

    def __init__(
        self,
        X: NDArray[np.floating],
        Y: NDArray[np.floating],
        fold: NDArray[np.intp],
        text_dim: int,
    ) -> None:
        self._order = np.argsort(fold, kind="stable")
        self._inputs = np.ascontiguousarray(X[self._order], dtype=np.float32)
        end = X.shape[1] - text_dim
        self.vectors: Vectors = np.ascontiguousarray(self._inputs[:, :end])
        self.features: Vectors = np.ascontiguousarray(self._inputs[:, end:])
        self.targets: Vectors = np.ascontiguousarray(Y[self._order], dtype=np.float32)
        _, starts = np.unique(fold[self._order], return_index=True)
        ends = [*starts[1:].tolist(), len(X)]
        self.rows = [slice(*each) for each in zip(starts.tolist(), ends, strict=True)]
        everything = np.arange(len(X))
        self.others = [np.delete(everything, rows) for rows in self.rows]
        self._made: dict[Callable[[Folds], Any], Any] = {}
        self._making = RLock()

    def inputs(self, text_dim: int) -> Vectors:
        """Return what a translator with ``text_dim`` features of texts, all or none, is fitted on.

        ``(n, source_dim + text_dim)`` float32.
        """
        return self._inputs if text_dim else self.vectors

    def as_given(self, predicted: Vectors) -> Vectors:
        """Return ``(n, d)`` rows that are ordered by fold in the order of the anchors given."""
        given = np.empty_like(predicted)
        given[self._order] = predicted
        return given

    def finish(self, predicted: Vectors, normalize: bool | None) -> Vectors:
        """Scale ``(n, target_dim)`` predictions to unit length, in place, if they are to be."""
        if self.normalizes(normalize):
            normalize_rows(predicted)
        return predicted

    def normalizes(self, asked: bool | None) -> bool:
        """Tell if translations are scaled to unit length; None does so if all targets are."""
        return are_unit_length(self.targets) if asked is None else asked

    def once(self, make: Callable[[Folds], Made]) -> Made:
        """Return ``make(self)``, made at the first call with this function and kept.

        Threads may share it.
        """
        with self._making:
            if make not in self._made:
                self._made[make] = make(self)
            made: Made = self._made[make]
        return made


def moments_without(folds: Folds) -> list[PairMoments]:
    """Return, for each fold, the moments of vectors and targets of all anchors outside it."""
    own = [PairMoments.of(folds.vectors[rows], folds.targets[rows]) for rows in folds.rows]
    without = []
    for left_out in own:
        moments = PairMoments.empty(folds.vectors.shape[1], folds.targets.shape[1])
        for each in own:
            if each is not left_out:
                moments.add(each)
        without.append(moments)
    return without


def spreads_without(folds: Folds) -> list[Spread]:
    """Return, for each fold, how the targets of all anchors outside it vary."""
    return [Spread.of(folds.targets[others]) for others in folds.others]
