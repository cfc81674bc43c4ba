"""What stands between a source and a sink: batches, screening, prefetching, id fingerprints."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import PointId, VectorBatch, id_array
from vecmigrate.errors import BadVectorError
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.screening import OnBadVector, Skipped, screen
from vecmigrate.runtime.threads import prefetch

ID = st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str))


def batch_with_bad_rows() -> VectorBatch:
    vectors = np.ones((5, 3), np.float32)
    vectors[1], vectors[2, 0], vectors[3, 2] = 0, np.nan, np.inf
    return VectorBatch(id_array([10, 11, 12, 13, 14]), vectors, [{"n": n} for n in range(5)], "5")


def test_bad_vectors_stop_the_stream_and_are_named() -> None:
    screened = screen([batch_with_bad_rows()], "faiss:x", OnBadVector.FAIL, Skipped())
    with pytest.raises(BadVectorError, match=r"faiss:x.*11, 12, 13"):
        next(screened)


def test_bad_vectors_can_be_left_out_and_are_counted() -> None:
    skipped = Skipped()
    [kept] = screen([batch_with_bad_rows()], "faiss:x", OnBadVector.SKIP, skipped)
    assert kept.ids.tolist() == [10, 14]
    assert kept.payloads == [{"n": 0}, {"n": 4}]
    assert kept.cursor == "5"
    assert (skipped.ids, skipped.not_finite, skipped.zero) == ([11, 12, 13], 2, 1)


def test_huge_finite_vectors_count_as_bad_rather_than_overflow_later() -> None:
    batch = VectorBatch(id_array([1]), np.full((1, 4), 1e30, np.float32))
    with pytest.raises(BadVectorError):
        next(screen([batch], "x", OnBadVector.FAIL, Skipped()))


@pytest.mark.parametrize(
    ("vectors", "ids"),
    [
        (np.ones((2, 3)), [1, 2]),
        (np.ones(3, np.float32), [1, 2, 3]),
        (np.ones((3, 4), np.float32)[:, ::2], [1, 2, 3]),
        (np.ones((2, 3), np.float32), [1]),
    ],
)
def test_a_batch_is_float32_contiguous_and_whole(vectors: np.ndarray, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"vectors|points"):
        VectorBatch(id_array(ids), vectors)


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    stream = prefetch(items())
    assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="disk is gone"):
        next(stream)


def test_prefetch_runs_at_most_its_depth_ahead() -> None:
    produced = 0

    def items() -> Iterator[int]:
        nonlocal produced
        for item in range(100):
            produced += 1
            yield item

    stream = prefetch(items(), depth=3)
    next(stream)
    time.sleep(0.3)
    # One consumed, three waiting, one in hand.
    assert produced <= 5
    stream.close()


def test_prefetch_stops_its_thread_when_the_consumer_does() -> None:
    before = threading.active_count()
    stream = prefetch(prefetch(iter(range(10**9))))
    assert next(stream) == 0
    stream.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@given(ids=st.lists(ID, unique=True, max_size=30), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_fingerprint_ignores_order_and_batches(ids: list[PointId], seed: int) -> None:
    one, other = IdFingerprint(), IdFingerprint()
    one.add(id_array(ids))
    shuffled = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]
    for start in range(0, len(ids), 7):
        other.add(id_array(shuffled[start : start + 7]))
    assert one == other


@given(ids=st.lists(ID, unique=True, min_size=1, max_size=30), data=st.data())
@settings(deadline=None)
def test_fingerprint_tells_a_changed_id(ids: list[PointId], data: st.DataObject) -> None:
    changed = list(ids)
    row = data.draw(st.integers(0, len(ids) - 1))
    changed[row] = data.draw(ID.filter(lambda i: i not in ids))
    one, other = IdFingerprint(), IdFingerprint()
    one.add(id_array(ids))
    other.add(id_array(changed))
    assert one != other


def test_an_integer_and_its_digits_are_different_ids() -> None:
    one, other = IdFingerprint(), IdFingerprint()
    one.add(id_array([5]))
    other.add(id_array(["5"]))
    assert one != other
