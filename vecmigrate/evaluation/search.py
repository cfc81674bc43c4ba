"""Exact nearest neighbours over streamed batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray, VectorBatch, Vectors, id_array, normalize_rows
from vecmigrate.points.collection import Metric

MOST_IDS = 1 << 20
"""Ids held at a time, where the results do not need more."""


def exact_search(
    batches: Iterable[VectorBatch], queries: Vectors, k: int, metric: Metric
) -> IdArray:
    """Return the ids of each query's ``k`` nearest points, best first.

    Each batch is searched by FAISS's exact ``knn`` and merged into the best so far. Memory is that
    of a batch, the results and some ids: those that are no longer among the best are let go.

    Parameters
    ----------
    queries
        ``(n, d)`` float32.

    Returns
    -------
    IdArray
        ``(n, min(k, points))``.
    """
    import faiss

    similar = metric in (Metric.COSINE, Metric.DOT)
    measure = {
        Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
        Metric.DOT: faiss.METRIC_INNER_PRODUCT,
        Metric.EUCLID: faiss.METRIC_L2,
        Metric.MANHATTAN: faiss.METRIC_L1,
    }[metric]
    if metric is Metric.COSINE:
        queries = queries.copy()
        normalize_rows(queries)
    heap = faiss.ResultHeap(len(queries), k, keep_max=similar)
    ids: list[IdArray] = []
    held = seen = 0
    for batch in batches:
        if held > max(MOST_IDS, 4 * heap.I.size):
            ids = [_keep_best(heap.I, _concatenate(ids))]
            held = len(ids[0])
        vectors = batch.vectors
        if metric is Metric.COSINE:
            vectors = vectors.copy()
            normalize_rows(vectors)
        scores, rows = faiss.knn(queries, vectors, min(k, len(batch)), metric=measure)
        heap.add_result(scores, rows + held)
        ids.append(batch.ids)
        held += len(batch)
        seen += len(batch)
    heap.finalize()
    found: NDArray[np.int64] = heap.I[:, : min(k, seen)]
    return _concatenate(ids)[found]


def _keep_best(places: NDArray[np.int64], ids: IdArray) -> IdArray:
    """Return the ids that a heap still refers to, whose ``places`` are renumbered accordingly."""
    filled = places >= 0
    best, numbers = np.unique(places[filled], return_inverse=True)
    places[filled] = numbers
    return ids[best]


def _concatenate(parts: list[IdArray]) -> IdArray:
    if not parts:
        return id_array([])
    if any(part.dtype == object for part in parts):
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)
