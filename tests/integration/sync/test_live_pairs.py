"""Whatever happens to a source and its target, one sync makes the target what it should be.

A few histories of some pairs of stores; ``benchmarks/live_pairs.py`` draws 2,000 of all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from support.live_pairs import Change, LivePair, run_histories
from support.live_stores import Surroundings, surroundings

PAIRS = [
    ("faiss", "faiss"), ("rest", "grpc"), ("grpc", "parquet"), ("parquet", "lancedb"),
    ("lancedb", "embedded"), ("embedded", "edge"), ("edge", "faiss"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Surroundings]:
    with surroundings(kills=True) as made:
        yield made


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_a_target_follows_its_source_through_any_history(
    pair: tuple[str, str], shared: Surroundings
) -> None:
    tally: Counter[str] = Counter()
    run_histories(shared, [pair], 2, steps=6, number=1, tally=tally)
    assert tally["settled"] >= 2


class Drawn(st.DataObject):
    """A pair that is not drawn."""

    def __init__(self, pair: tuple[str, str]) -> None:
        self._pair = pair

    def draw(self, *_: object) -> tuple[str, str]:  # type: ignore[override]
        return self._pair


@contextmanager
def history(shared: Surroundings, *pair: str, **more: Any) -> Iterator[LivePair]:
    """Begin a history of a pair, compared at its end."""
    drawn = {"shared": shared, "pairs": [pair], "tally": Counter()}
    machine = type("Machine", (LivePair,), drawn)()
    given = {
        "uuids": False, "kept": True, "moved": True, "field": None, "shares": False,
        "drops": False,
    }  # fmt: skip
    machine.begin(data=Drawn(pair), count=10, **{**given, **more})
    yield machine
    machine.teardown()


@pytest.mark.parametrize("shares", [False, True])
def test_a_point_gets_the_vector_back_that_it_lost(shared: Surroundings, shares: bool) -> None:
    with history(shared, "rest", "grpc", shares=shares) as pair:
        pair.write([Change("bare", 0, 0, 0)])
        pair.settle()
        pair.write([Change("put", 0, 24, 2)])


def test_what_a_sync_wrote_is_re_embedded_as_it_wrote_it(shared: Surroundings) -> None:
    """And not as the target was when it was opened."""
    with history(shared, "faiss", "lancedb", field="versions") as pair:
        changes = [Change("text", 6, 20, 6), Change("text", 2, 25, 4), Change("text", 8, 22, 0)]
        pair.follow(stop=7, meanwhile=changes, size=4, rest=False, texts=2)
        pair.follow(stop=None, meanwhile=[], size=5, rest=False, texts=3)


@pytest.mark.parametrize("field", [None, "times"])
def test_a_restart_tells_what_it_left_from_the_points_of_others(
    shared: Surroundings, field: str | None
) -> None:
    with history(shared, "parquet", "grpc", moved=False, shares=True, field=field) as pair:
        pair.move(stop=2, meanwhile=[], size=3, few=100)
        assert not pair.published
        pair.share_unfinished(new=[8], gone=[])
        changes = [Change("vector", 0, 20, 0), Change("delete", 1, 0, 0), Change("put", 2, 30, 2)]
        pair.write(changes)
        pair.move(stop=None, meanwhile=[], size=3, few=100)
        assert pair.tally["migrations restarted"] == 1


def test_another_protocol_has_all_points_compared(shared: Surroundings) -> None:
    """So that verify knows again what others wrote at the target."""
    with history(shared, "grpc", "rest", shares=True, field="versions") as pair:
        pair.share(new=[14], over=[1], gone=[2], retold=[])
        for _ in range(2):
            pair.follow(stop=None, meanwhile=[], size=4, rest=False, texts=0)
        pair.follow(stop=None, meanwhile=[], size=4, rest=True, texts=0)


def test_what_others_wrote_over_points_of_a_killed_sync_is_theirs(shared: Surroundings) -> None:
    with history(shared, "embedded", "grpc", shares=True) as pair:
        changed = [Change("put", 9, 15, 6), Change("bare", 8, 0, 0), Change("vector", 0, 52, 5)]
        pair.killed_sync(changes=changed, size=7, step=8)
        assert pair.tally["sync killed"] == 1
        pair.share(new=[], over=[0, 8, 9], gone=[], retold=[])


@pytest.mark.parametrize("store", ["faiss", "parquet", "lancedb", "edge", "rest"])
def test_what_vanishes_after_a_ledger_was_lost_is_gone(shared: Surroundings, store: str) -> None:
    with history(shared, "grpc", store, moved=False) as pair:
        pair.move(stop=3, meanwhile=[], size=2, few=100)
        assert not pair.published
        pair.lose(whole=False)
        pair.write([Change("delete", 0, 0, 0), Change("delete", 1, 0, 0)])


@pytest.mark.parametrize("field", [None, "times"])
def test_a_point_without_a_vector_that_others_deleted_is_back(
    shared: Surroundings, field: str | None
) -> None:
    with history(shared, "grpc", "embedded", field=field) as pair:
        pair.write([Change("bare", 4, 0, 0)])
        pair.intrude(new=[], over=[], gone=[4], shares=False, changes=[])


def test_a_source_is_dropped_though_others_wrote_at_the_target(shared: Surroundings) -> None:
    with history(shared, "faiss", "faiss", drops=True) as pair:
        pair.go_over(changes=[], late=[], catching_up=False)
        pair.share(new=[14], over=[2], gone=[3], retold=[4])
        pair.write([Change("payload", 5, 0, 2)])
    assert pair.tally["sources dropped"] == 1


def test_what_was_brought_back_and_then_deleted_stays_deleted(shared: Surroundings) -> None:
    with history(shared, "rest", "rest", drops=True) as pair:
        pair.go_over(changes=[], late=[], catching_up=False)
        pair.share(new=[14, 15], over=[2], gone=[3], retold=[])
        pair.bring_back()
        pair.share(new=[], over=[], gone=[14], retold=[])
    assert pair.tally["sources dropped"] == 1


def test_after_a_rollback_what_others_wrote_is_told_by_verify(shared: Surroundings) -> None:
    with history(shared, "faiss", "faiss") as pair:
        pair.go_over(changes=[], late=[], catching_up=False)
        pair.share(new=[14], over=[2], gone=[3], retold=[])
        pair.settle()
        pair.go_back(changes=[], shares=False)


def test_a_run_by_another_protocol_that_was_stopped_is_followed_by_a_full_one(
    shared: Surroundings,
) -> None:
    with history(shared, "grpc", "parquet", field="versions") as pair:
        pair.intrude(new=[14], over=[], gone=[], shares=True, changes=[])
        pair.follow(stop=1, meanwhile=[Change("payload", 4, 0, 1)], size=9, rest=True, texts=0)


def test_what_vanishes_during_a_run_by_another_protocol_goes_with_the_next(
    shared: Surroundings,
) -> None:
    with history(shared, "grpc", "rest", field="times") as pair:
        pair.intrude(new=[14], over=[], gone=[], shares=True, changes=[])
        pair.write([Change("payload", 4, 0, 6)])
        pair.follow(stop=None, meanwhile=[Change("delete", 3, 0, 0)], size=9, rest=True, texts=0)
