"""The reservoir: uniform, seeded, independent of how points are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import VectorBatch, id_array
from vecmigrate.points.sampling import sample_uniform


def cut(n: int, size: int) -> Iterator[VectorBatch]:
    vectors = np.arange(n, dtype=np.float32)[:, None]
    for start in range(0, n, size):
        yield VectorBatch(np.arange(start, min(start + size, n)), vectors[start : start + size])


@given(n=st.integers(1, 200), size=st.integers(1, 60), a=st.integers(1, 50), b=st.integers(1, 50))
@settings(deadline=None)
def test_batch_sizes_do_not_change_the_sample(n: int, size: int, a: int, b: int) -> None:
    one, other = sample_uniform(cut(n, a), size, seed=7), sample_uniform(cut(n, b), size, seed=7)
    assert one is not None
    assert other is not None
    assert one.ids.tolist() == other.ids.tolist()
    assert len(one) == min(n, size) == len(set(one.ids.tolist()))
    np.testing.assert_array_equal(one.vectors[:, 0], one.ids)


def test_each_point_is_drawn_equally_often() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        sample = sample_uniform(cut(40, 7), 10, seed)
        assert sample is not None
        counts[sample.ids] += 1
    # Binomial(2000, 1/4): sd 19.4; five of them for forty points.
    assert np.abs(counts - 500).max() < 97


def test_seeds_differ() -> None:
    a, b = sample_uniform(cut(500, 50), 20, 1), sample_uniform(cut(500, 50), 20, 2)
    assert a is not None
    assert b is not None
    assert a.ids.tolist() != b.ids.tolist()


def test_no_points_give_no_sample() -> None:
    assert sample_uniform(iter([]), 3, 0) is None


@pytest.mark.parametrize("ids", [["a", "b", "c"], [2**63 + 1, "x", 4]])
def test_ids_that_are_not_int64_are_kept(ids: list[int | str]) -> None:
    batch = VectorBatch(id_array(ids), np.eye(3, dtype=np.float32))
    sample = sample_uniform([batch], 3, 0)
    assert sample is not None
    assert sample.ids.tolist() == ids
