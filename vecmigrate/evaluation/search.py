"""Exact nearest neighbours over streamed batches, and scores by metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import (
    IdArray,
    VectorBatch,
    Vectors,
    id_array,
    normalize_rows,
    row_norms,
)
from vecmigrate.points.collection import Metric

_Float = TypeVar("_Float", np.float32, np.float64)


def score_matrix(
    queries: NDArray[_Float], points: NDArray[_Float], metric: Metric
) -> NDArray[_Float]:
    """Return the ``(q, n)`` scores of ``(q, d)`` queries and ``(n, d)`` points.

    Cosine and dot product as they are; distances negated, Euclidean ones squared.
    """
    if metric is Metric.MANHATTAN:
        from scipy.spatial.distance import cdist

        distances: NDArray[np.float64] = cdist(queries, points, "cityblock")
        return -distances.astype(queries.dtype)
    if metric is Metric.COSINE:
        queries, points = _unit(queries), _unit(points)
    scores: NDArray[_Float] = queries @ points.T
    if metric is Metric.EUCLID:
        scores *= 2
        scores -= np.einsum("ij,ij->i", queries, queries)[:, None]
        scores -= np.einsum("ij,ij->i", points, points)
    return scores


def greatest(scores: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Return the positions of the ``k`` greatest scores along the last axis, in no order."""
    return np.argpartition(-scores, k - 1, axis=-1)[..., :k]


MOST_IDS = 1 << 20
"""Ids held at a time, if the results do not need more."""


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
        queries = _unit(queries)
    heap = faiss.ResultHeap(len(queries), k, keep_max=similar)
    ids: list[IdArray] = []
    held = seen = 0
    for batch in batches:
        if held > max(MOST_IDS, 4 * heap.I.size):
            ids = [_keep_best(heap.I, _concatenate(ids))]
            held = len(ids[0])
        vectors = _unit(batch.vectors) if metric is Metric.COSINE else batch.vectors
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


def distances(ours: Vectors, theirs: Vectors, *, cosine: bool) -> NDArray[np.floating]:
    """Return the ``(n,)`` distances of ``(n, d)`` vectors, relative to the length of ``ours``.

    Parameters
    ----------
    cosine
        Compare directions alone.
    """
    if cosine:
        ours, theirs = _unit(ours), _unit(theirs)
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.maximum(row_norms(ours), np.finfo(np.float32).tiny)
        off: NDArray[np.floating] = row_norms(ours - theirs) / length
    return off


def _unit(vectors: NDArray[_Float]) -> NDArray[_Float]:
    copied = vectors.copy()
    normalize_rows(copied)
    return copied
