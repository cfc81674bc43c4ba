"""Whatever happens to a source and its target, one sync makes the target what it should be.

A few histories of some pairs of stores; ``benchmarks/live_pairs.py`` draws 2,000 of all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from support.live_pairs import Surroundings, run_histories, surroundings

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
