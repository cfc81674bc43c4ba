"""Lengths of vectors, and vectors of unit length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.batches import Vectors

UNIT_TOLERANCE = 2e-3
"""How far from 1 a unit vector's length may lie: storage in float16 moves it so far."""


def row_norms(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the ``(n,)`` Euclidean lengths of ``(n, d)`` vectors; not finite where a row is not.

    Summed in float32, or float64 where the vectors are.
    """
    dtype = np.result_type(vectors.dtype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=dtype)
        norms: NDArray[np.floating] = np.sqrt(squares)
    return norms


def normalize_rows(vectors: Vectors) -> None:
    """Scale each row of ``(n, d)`` vectors to unit length, in place; zero rows stay as they are."""
    norms = row_norms(vectors)
    norms[norms == 0] = 1
    vectors /= norms[:, None]


def are_unit_length(vectors: NDArray[np.floating], *, tolerance: float = UNIT_TOLERANCE) -> bool:
    """Tell whether the lengths of all rows are 1, no farther off than ``tolerance``."""
    return bool(np.all(np.abs(row_norms(vectors) - 1) <= tolerance))
