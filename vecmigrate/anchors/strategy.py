"""Which points become anchors, chosen by their old vectors alone."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import VectorBatch, Vectors
from vecmigrate.points.sampling import sample_uniform
from vecmigrate.translators.kernels import spread_rows

POOL = 100_000
POOL_PER_ANCHOR = 20


class Strategy(StrEnum):
    """How anchors are chosen."""

    UNIFORM = "uniform"
    KMEANS = "kmeans"
    QUERIES = "queries"


def choose_anchors(
    batches: Iterable[VectorBatch],
    size: int,
    strategy: Strategy,
    seed: int,
    queries: Vectors | None = None,
) -> VectorBatch | None:
    """Choose ``size`` points in one streaming pass.

    ``uniform`` is :func:`sample_uniform`. The others choose among a uniform pool of ``POOL`` points
    (or ``POOL_PER_ANCHOR`` an anchor, if more), which bounds memory: ``kmeans`` takes the points
    nearest to as many centroids; ``queries`` takes half of them from the nearest neighbours of
    logged queries, best first, and the other half by k-means.

    Parameters
    ----------
    queries
        ``(q, d)`` float32 queries under the old encoder; for ``queries`` alone.

    Returns
    -------
    VectorBatch or None
        At most ``size`` points; None if there were none.
    """
    if strategy is Strategy.UNIFORM:
        return sample_uniform(batches, size, seed)
    pool = sample_uniform(batches, max(POOL, POOL_PER_ANCHOR * size), seed)
    if pool is None or len(pool) <= size:
        return pool
    asked = np.empty(0, dtype=np.intp)
    if strategy is Strategy.QUERIES and queries is not None:
        asked = _nearest_to(queries, pool.vectors, size // 2)
    others = np.setdiff1d(np.arange(len(pool)), asked)
    spread = spread_rows(np.ascontiguousarray(pool.vectors[others]), size - len(asked), seed)
    return pool.take(np.sort(np.concatenate([asked, others[spread]])))


def _nearest_to(queries: Vectors, points: Vectors, size: int) -> NDArray[np.intp]:
    """Rows of the points that queries find first: all of rank 1, then of rank 2, up to ``size``."""
    import faiss

    depth = min(len(points), max(1, 4 * size // max(len(queries), 1)))
    _, ranked = faiss.knn(queries, points, depth, metric=faiss.METRIC_INNER_PRODUCT)
    by_rank = ranked.T.reshape(-1)
    _, first = np.unique(by_rank, return_index=True)
    rows: NDArray[np.intp] = by_rank[np.sort(first)][:size].astype(np.intp)
    return rows
