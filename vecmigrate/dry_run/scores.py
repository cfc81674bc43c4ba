"""How near points are to queries, greater is nearer, by the collection's metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors, normalize_rows
from vecmigrate.points.collection import Metric


def score_matrix(queries: Vectors, points: Vectors, metric: Metric) -> NDArray[np.float32]:
    """Return the ``(q, n)`` float32 scores of ``(q, d)`` queries and ``(n, d)`` points.

    Cosine and dot product as they are; distances negated, Euclidean ones squared.
    """
    if metric is Metric.MANHATTAN:
        from scipy.spatial.distance import cdist

        distances: NDArray[np.float64] = cdist(queries, points, "cityblock")
        return -distances.astype(np.float32)
    if metric is Metric.COSINE:
        queries, points = queries.copy(), points.copy()
        normalize_rows(queries)
        normalize_rows(points)
    scores: NDArray[np.float32] = queries @ points.T
    if metric is Metric.EUCLID:
        scores *= 2
        scores -= np.einsum("ij,ij->i", queries, queries)[:, None]
        scores -= np.einsum("ij,ij->i", points, points)
    return scores
