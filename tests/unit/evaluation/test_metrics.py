"""Metrics against scikit-learn and by hand; exact search against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import Metric, VectorBatch, id_array
from vecmigrate.evaluation import (
    exact_search,
    labelled_recall,
    ndcg,
    recall_against,
    reciprocal_rank,
)

FOUND = np.array([[4, 2, 9], [1, 2, 3], [7, 8, 9]])
LABELS = [{2: 1.0, 5: 1.0}, {1: 1.0}, {}]


def test_labelled_metrics_by_hand() -> None:
    assert labelled_recall(FOUND, LABELS, 3).tolist() == [0.5, 1.0]
    assert reciprocal_rank(FOUND, LABELS, 3).tolist() == [0.5, 1.0]
    assert reciprocal_rank(FOUND, LABELS, 1).tolist() == [0.0, 1.0]
    discounts = 1 / np.log2([2, 3])
    assert ndcg(FOUND, LABELS, 3).tolist() == pytest.approx([discounts[1] / discounts.sum(), 1.0])


def test_recall_against_a_truth() -> None:
    truth = np.array([[2, 4, 1], [1, 2, 3], [1, 2, 3]])
    assert recall_against(FOUND, truth, 3).tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert recall_against(FOUND, truth, 1).tolist() == [0.0, 1.0, 0.0]


@given(seed=st.integers(0, 10_000), n=st.integers(2, 30), k=st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_ndcg_agrees_with_scikit_learn(seed: int, n: int, k: int) -> None:
    # Each process of a run collects the tests, and importing scikit-learn takes over a second.
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(seed)
    gains = rng.integers(0, 4, n).astype(float)
    gains[rng.integers(n)] = 2
    scores = rng.permutation(n).astype(float)
    found = np.argsort(-scores)[None]
    labels = [{i: g for i, g in enumerate(gains) if g}]
    oracle = ndcg_score(gains[None], scores[None], k=k)
    assert ndcg(found, labels, k)[0] == pytest.approx(oracle)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_exact_search_is_a_full_sort(metric: Metric, size: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 16)).astype(np.float32)
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    ids = rng.permutation(10_000)[:300]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, points)]
    scores = {
        Metric.DOT: queries @ points.T,
        Metric.COSINE: unit[0] @ unit[1].T,
        Metric.EUCLID: -np.linalg.norm(queries[:, None] - points, axis=2),
        Metric.MANHATTAN: -np.abs(queries[:, None] - points).sum(axis=2),
    }[metric]
    batches = [
        VectorBatch(ids[start : start + size], points[start : start + size])
        for start in range(0, 300, size)
    ]
    found = exact_search(batches, queries, 10, metric)
    np.testing.assert_array_equal(found, ids[np.argsort(-scores, axis=1)[:, :10]])


def test_exact_search_with_fewer_points_than_k_and_mixed_ids() -> None:
    batches = [
        VectorBatch(id_array([1, 2]), np.eye(4, dtype=np.float32)[:2]),
        VectorBatch(id_array(["a"]), np.eye(4, dtype=np.float32)[2:3]),
    ]
    queries = np.array([[0.1, 0.2, 0.9, 0.0]], np.float32)
    assert exact_search(batches, queries, 10, Metric.DOT).tolist() == [["a", 2, 1]]
