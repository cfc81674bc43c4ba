"""What cosine means to FAISS: inner products of vectors of unit length."""

from __future__ import annotations

import faiss

from vecmigrate.connector import Metric, Vectors, are_unit_length

_ROUNDING = 1e-6
"""How far from 1 float32 arithmetic leaves the length of a vector that was scaled to it."""


def scaled_for(metric: Metric, vectors: Vectors) -> Vectors:
    """Return ``(n, d)`` vectors as an index with this metric is given them, a copy if changed."""
    if metric is not Metric.COSINE or are_unit_length(vectors, tolerance=_ROUNDING):
        return vectors
    vectors = vectors.copy()
    faiss.normalize_L2(vectors)
    return vectors
