"""Chooses points that stand for many, by k-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors

ITERATIONS = 8
POINTS_PER_CENTROID = 100


def spread_rows(points: Vectors, size: int, seed: int) -> NDArray[np.intp]:
    """Return ``size`` rows of ``(n, d)`` float32 points that cover them, nearest to centroids.

    Spherical k-means (Dhillon and Modha 2001) by FAISS, the points being scaled to unit length;
    centroids that share their nearest point are made up for by rows drawn uniformly. Sorted.
    """
    import faiss

    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)
    kmeans = faiss.Kmeans(
        points.shape[1],
        size,
        niter=ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(unit)
    centroids = np.asarray(kmeans.centroids, dtype=np.float32)
    _, nearest = faiss.knn(centroids, unit, 1, metric=faiss.METRIC_INNER_PRODUCT)
    chosen = np.unique(nearest[:, 0])
    others = np.setdiff1d(np.arange(len(points)), chosen)
    fill = np.random.default_rng(seed).permutation(others)[: size - len(chosen)]
    return np.sort(np.concatenate([chosen, fill]))


def choose_landmarks(points: NDArray[np.floating], size: int, seed: int) -> Vectors:
    """Return ``size`` of ``(n, d)`` points, float32, chosen by :func:`spread_rows`."""
    vectors = np.ascontiguousarray(points, dtype=np.float32)
    return np.ascontiguousarray(vectors[spread_rows(vectors, size, seed)])
