"""Exact nearest neighbours over streamed batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vecmigrate.batches import IdArray, VectorBatch, Vectors, id_array
from vecmigrate.description import Metric
from vecmigrate.norms import normalize_rows


def exact_search(
    batches: Iterable[VectorBatch], queries: Vectors, k: int, metric: Metric
) -> IdArray:
    """Return the ids of each query's ``k`` nearest points, best first.

    Each batch is searched by FAISS's exact ``knn`` and merged into the best so far, so memory is
    that of a batch and the results.

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
    seen = 0
    for batch in batches:
        vectors = batch.vectors
        if metric is Metric.COSINE:
            vectors = vectors.copy()
            normalize_rows(vectors)
        scores, rows = faiss.knn(queries, vectors, min(k, len(batch)), metric=measure)
        heap.add_result(scores, rows + seen)
        ids.append(batch.ids)
        seen += len(batch)
    heap.finalize()
    found = heap.I[:, : min(k, seen)]
    all_ids = _concatenate(ids)
    return all_ids[found]


def _concatenate(parts: list[IdArray]) -> IdArray:
    if not parts:
        return id_array([])
    if any(part.dtype == object for part in parts):
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)
