"""Recall, reciprocal rank and discounted gain of ranked ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray, PointId

Labels: TypeAlias = Sequence[Mapping[PointId, float]]
"""For each query, the gain of each relevant id; an empty mapping if it has no labels."""


def recall_against(found: IdArray, truth: IdArray, k: int) -> NDArray[np.float64]:
    """Return for each query the share of the true top ``k`` that is among the found top ``k``.

    Parameters
    ----------
    found, truth
        ``(n, >= k)`` ids, best first; fewer columns if the collection is smaller.
    """
    return np.array(
        [
            len(set(f) & set(t)) / len(t)
            for f, t in zip(found[:, :k].tolist(), truth[:, :k].tolist(), strict=True)
        ]
    )


def labelled_recall(found: IdArray, labels: Labels, k: int) -> NDArray[np.float64]:
    """Return for each labelled query the share of its relevant ids among the top ``k``."""
    return np.array(
        [
            len(relevant.keys() & set(ranked)) / len(relevant)
            for ranked, relevant in _labelled(found, labels, k)
        ]
    )


def reciprocal_rank(found: IdArray, labels: Labels, k: int) -> NDArray[np.float64]:
    """Return for each labelled query one over the rank of its first relevant id, 0 past ``k``."""
    return np.array(
        [
            next((1 / rank for rank, i in enumerate(ranked, 1) if i in relevant), 0.0)
            for ranked, relevant in _labelled(found, labels, k)
        ]
    )


def ndcg(found: IdArray, labels: Labels, k: int) -> NDArray[np.float64]:
    """Return for each labelled query nDCG@k with linear gain (Järvelin and Kekäläinen 2002)."""
    return np.array(
        [
            _discounted([relevant.get(i, 0.0) for i in ranked])
            / ideal_discounted_gain(relevant.values(), k)
            for ranked, relevant in _labelled(found, labels, k)
        ]
    )


def ideal_discounted_gain(gains: Iterable[float], k: int) -> float:
    """Return the greatest discounted gain that ``k`` ranks can have with these gains."""
    return _discounted(sorted(gains, reverse=True)[:k])


def _discounted(gains: Sequence[float]) -> float:
    """Discounted sum of gains by rank, the first not discounted."""
    return float(np.array(gains) @ (1 / np.log2(np.arange(2, len(gains) + 2))))


def _labelled(
    found: IdArray, labels: Labels, k: int
) -> list[tuple[list[PointId], Mapping[PointId, float]]]:
    return [
        (ranked, relevant)
        for ranked, relevant in zip(found[:, :k].tolist(), labels, strict=True)
        if relevant
    ]
