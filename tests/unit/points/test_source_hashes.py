"""Hashes by which a change at the source is told, and sketches by which a vector is known again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vecmigrate.connector import VectorBatch, id_array
from vecmigrate.points.checksums import (
    BITS,
    row_hashes,
    sketch_tolerance,
    sketches,
    source_hashes,
)

RNG = np.random.default_rng(5)


def batch(vectors: np.ndarray, ids: Any = None, **more: Any) -> VectorBatch:
    return VectorBatch(id_array(range(len(vectors)) if ids is None else ids), vectors, **more)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9))),
    st.data(),
)
def test_every_bit_of_a_row_counts(rows: np.ndarray, data: st.DataObject) -> None:
    at = data.draw(st.tuples(*(st.integers(0, size - 1) for size in rows.shape)))
    changed = rows.copy()
    changed.view(np.uint32)[at] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    same = row_hashes(rows) == row_hashes(changed)
    assert not same[at[0]]
    assert np.delete(same, at[0]).all()


@pytest.mark.parametrize("dimension", [1, 2, 63, 64, 384])
def test_rows_that_are_mirrored_swapped_or_zero_differ(dimension: int) -> None:
    rows = RNG.standard_normal((4000, dimension)).astype(np.float32)
    zeros = np.zeros((1, dimension), np.float32)
    rolled = np.roll(rows, 1, axis=1) if dimension > 1 else rows[:0]
    each = np.concatenate([rows, -rows, rolled, zeros])
    assert len(set(row_hashes(each).tolist())) == len(each)


def test_a_row_has_its_hash_in_any_batch_and_memory() -> None:
    rows = RNG.standard_normal((3000, 17)).astype(np.float32)
    whole = row_hashes(rows)
    np.testing.assert_array_equal(whole[1000:1003], row_hashes(rows[1000:1003]))
    rows.flags.writeable = False
    np.testing.assert_array_equal(whole, row_hashes(rows))


def test_hashes_are_these_for_ever() -> None:
    """Ledgers on users' disks hold them: a change of the rule needs another HASH_RULE."""
    one = batch(
        np.arange(6, dtype=np.float32).reshape(2, 3), [7, 2**62], payloads=[{"a": 1}, {}],
    )  # fmt: skip
    assert source_hashes(one).tolist() == EXPECTED


EXPECTED = [
    [6819170726551386451, -1942478561021133043],
    [2137121937316187863, 6779152387383442243],
]


def test_ids_payloads_and_what_is_beside_count_and_the_order_of_keys_does_not() -> None:
    rows = np.ones((2, 4), np.float32)
    plain = source_hashes(batch(rows))
    assert len(set(plain.ravel().tolist())) == 4
    np.testing.assert_array_equal(plain, source_hashes(batch(rows, payloads=[{}, {}])))
    one = source_hashes(batch(rows, payloads=[{"a": 1, "b": {"c": 1, "d": 2}}, {}]))
    other = source_hashes(batch(rows, payloads=[{"b": {"d": 2, "c": 1}, "a": 1}, {}]))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[:, 0], plain[:, 0])
    assert one[0, 1] != plain[0, 1]
    beside = source_hashes(batch(rows, extras=[{"x": 1}, {}]))
    assert (beside[:, 0] != plain[:, 0]).all()
    assert (source_hashes(batch(rows, ["0", "1"])) != plain).all()


def test_a_point_without_a_vector_differs_from_one_of_zeros() -> None:
    rows = np.zeros((1, 4), np.float32)
    bare = batch(rows[:0], [3], counts=np.array([0]))
    assert source_hashes(bare)[0, 0] != source_hashes(batch(rows, [3]))[0, 0]
    both = VectorBatch(id_array([3, 4]), rows, counts=np.array([0, 1]))
    np.testing.assert_array_equal(source_hashes(both)[0], source_hashes(bare)[0])
    np.testing.assert_array_equal(source_hashes(both)[1], source_hashes(batch(rows, [4]))[0])


def differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count((sketches(one) ^ sketches(other)).view(np.uint64))


@pytest.mark.parametrize("dimension", [12, 100, 128, 768])
@pytest.mark.parametrize("rounding", [0.0, 0.01, 0.2])
def test_a_sketch_survives_rounding_and_no_other_vector(dimension: int, rounding: float) -> None:
    rows = RNG.standard_normal((2000, dimension)).astype(np.float32)
    noise = RNG.standard_normal(rows.shape).astype(np.float32)
    noise *= (
        rounding
        * np.linalg.norm(rows, axis=1, keepdims=True)
        / np.linalg.norm(noise, axis=1, keepdims=True)
    )
    allowed = sketch_tolerance(rounding)
    assert (differing(rows, 3 * (rows + noise)) <= allowed).mean() > 0.99
    if rounding < 0.1:
        # As near as a translated vector and a true one: a cosine of 0.8.
        other = RNG.standard_normal(rows.shape).astype(np.float32)
        near = 0.8 * rows + 0.6 * other
        assert (differing(rows, near) > allowed).mean() > (0.9 if dimension == 12 else 0.99)
    assert allowed < BITS / 2
