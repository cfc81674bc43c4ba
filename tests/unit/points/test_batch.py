"""Batches of points with extras, with several vectors, or with none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector import ORIGIN_FIELD, Absent, EncoderIdentity, Metric, VectorBatch
from vecmigrate.errors import BadVectorError
from vecmigrate.migration.dead_letters import DeadLetters
from vecmigrate.points.screening import OnBadVector, Skipped, screen
from vecmigrate.translators import Procrustes, read_card, save_translator
from vecmigrate.verification.vectors import alike

COUNTS = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def ragged(counts: list[int]) -> VectorBatch:
    """Points of which the one at i has counts[i] vectors, each [i, its place]."""
    rows = [[i + 1, at] for i, count in enumerate(counts) for at in range(count)]
    return VectorBatch(
        np.arange(len(counts)),
        np.array(rows, np.float32).reshape(-1, 2),
        [{"n": i} for i in range(len(counts))],
        "cursor",
        [{"extra": i} for i in range(len(counts))],
        np.array(counts, np.intp),
    )


@given(counts=COUNTS, data=st.data())
def test_points_are_taken_with_all_that_is_theirs(counts: list[int], data: st.DataObject) -> None:
    batch = ragged(counts)
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8))
    taken = batch.take(np.array(rows, np.intp))
    assert taken.ids.tolist() == rows
    assert [p["n"] for p in taken.payloads or ()] == rows
    assert [e["extra"] for e in taken.extras or ()] == rows
    assert taken.each_count() == [counts[row] for row in rows]
    expected = [[row + 1, at] for row in rows for at in range(counts[row])]
    assert taken.vectors.tolist() == expected
    assert taken.owners().tolist() == [
        at for at, row in enumerate(rows) for _ in range(counts[row])
    ]
    assert (len(taken), taken.cursor) == (len(rows), "cursor")


def test_parts_that_do_not_fit_are_refused() -> None:
    batch = ragged([1, 2])
    for change in (
        {"counts": np.array([1, 1])},
        {"counts": np.array([4, -1])},
        {"extras": [{}]},
        {"payloads": [{}]},
    ):
        parts = {"payloads": None, "extras": None, "counts": batch.counts, **change}
        with pytest.raises(ValueError, match=r"points|vectors"):
            VectorBatch(batch.ids, batch.vectors, **parts)  # type: ignore[arg-type]


def test_points_of_one_vector() -> None:
    one = ragged([1, 0, 1]).with_one_vector()
    assert (one.counts, one.ids.tolist(), one.vectors.tolist()) == (None, [0, 2], [[1, 0], [3, 0]])
    assert one.with_one_vector() is one
    with pytest.raises(ValueError, match="several"):
        ragged([1, 2]).with_one_vector()


def test_a_point_is_as_good_as_its_worst_vector() -> None:
    batch = ragged([2, 0, 3, 1])
    batch.vectors[3] = np.nan
    batch.vectors[5] = 0
    skipped = Skipped()
    [good] = screen([batch], "here", OnBadVector.SKIP, skipped, absent=Absent.WRITTEN)
    assert (good.ids.tolist(), good.each_count()) == ([0, 1], [2, 0])
    assert (skipped.ids, skipped.not_finite, skipped.zero, skipped.absent) == ([2, 3], 1, 1, 0)
    skipped = Skipped()
    [good] = screen([batch], "here", OnBadVector.SKIP, skipped)
    assert (good.ids.tolist(), skipped.absent) == ([0], 1)
    with pytest.raises(BadVectorError, match=r"missing vectors, ids 1\b"):
        list(screen([ragged([1, 0])], "here", OnBadVector.FAIL, Skipped()))


def test_anchors_are_kept_beside_points_without_a_vector(tmp_path: Path) -> None:
    new = EncoderIdentity(name="new", dimension=2, normalized=False)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((9, 2)).astype(np.float32)
    save_translator(Procrustes().fit(X, X), tmp_path / "t", target_encoder=new)
    card = AnchorCard(
        source="faiss:old", population=9, seed=0, strategy=Strategy.UNIFORM, target_encoder=new,
        metric=Metric.DOT,
    )  # fmt: skip
    keeper = AnchorKeeper(AnchorSet(np.arange(9), X, X + 7, card), read_card(tmp_path / "t"))
    [done] = keeper.apply([ragged([1, 0, 1])])
    np.testing.assert_array_equal(done.vectors, X[[0, 2]] + 7)
    marks = [payload.get(ORIGIN_FIELD) for payload in done.payloads or ()]
    assert (marks, keeper.kept, done.each_count()) == (["encoded", None, "encoded"], 2, [1, 0, 1])
    assert done.extras == ragged([1, 0, 1]).extras


def test_a_refused_point_is_set_aside_with_all_its_vectors(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path / "letters.jsonl", "run")
    letters.add(ragged([1, 3]).take(np.array([1])), "too large")
    assert '"vector": [[2.0, 0.0], [2.0, 1.0], [2.0, 2.0]]' in letters.path.read_text()


def test_extras_are_the_same_but_for_rounding() -> None:
    sparse = {"indices": [1, 900_000], "values": [0.5, 3.0]}
    extra = {"vectors": {"a": [0.6, 0.8], "b": [[1.0, 2.0]], "s": sparse}, "shard_key": "x"}
    assert alike(extra, {**extra, "vectors": {**extra["vectors"], "a": [0.6, 0.8 + 1e-8]}})  # type: ignore[dict-item]
    for wrong in (
        {"a": [0.6, 0.81]},
        {"b": [[1.0, 2.0], [1.0, 2.0]]},
        {"s": {**sparse, "indices": [1, 900_001]}},
        {"new": [1.0]},
    ):
        assert not alike(extra, {**extra, "vectors": {**extra["vectors"], **wrong}})  # type: ignore[dict-item]
    assert not alike(extra, {**extra, "shard_key": "y"})
    assert not alike(extra, {"vectors": extra["vectors"]})
