"""What cosine means to FAISS: inner products of vectors of unit length."""

from __future__ import annotations

import faiss

from vecmigrate.connector import Metric, Vectors


def scaled_for(metric: Metric, vectors: Vectors) -> Vectors:
    """Return ``(n, d)`` vectors as an index with this metric is given them, a copy if changed."""
    if metric is not Metric.COSINE:
        return vectors
    vectors = vectors.copy()
    faiss.normalize_L2(vectors)
    return vectors
