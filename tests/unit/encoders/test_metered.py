"""The metered encoder: what it counts, keeps, prices, and where it stops, from many threads too."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest

from vecmigrate.connector import EncoderIdentity
from vecmigrate.encoders import (
    Budget,
    BudgetSpentError,
    EmbeddingStore,
    Meter,
    MeteredEncoder,
)
from vecmigrate.errors import InputError, MismatchError, UnreachableError

IDENTITY = EncoderIdentity(name="numbers", dimension=2)


class Numbers:
    """Encodes a text's last number; notes what it was asked for, and may fail at one text."""

    needs_texts = True
    identity = IDENTITY

    def __init__(self, fails_at: str | None = None, together: int = 1) -> None:
        self.asked: list[str] = []
        self.fails_at = fails_at
        self._together = Barrier(together)
        self._lock = Lock()

    def encode(self, texts: Sequence[str] | None, **_: Any) -> np.ndarray:
        assert texts is not None
        self._together.wait(timeout=60)
        if self.fails_at in texts:
            raise UnreachableError("the encoder is gone", remedy="Try again.")
        with self._lock:
            self.asked += texts
        return np.array([[int(text.split()[-1]), 1] for text in texts], np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def texts_of(numbers: Sequence[int]) -> list[str]:
    return [f"text {n}" for n in numbers]


def store(folder: Path, batch: int = 256) -> EmbeddingStore:
    return EmbeddingStore(folder, IDENTITY, "document", batch)


def test_it_counts_texts_and_tokens_and_prices_them() -> None:
    encoder = MeteredEncoder(Numbers(), Meter(price_per_million_tokens=2.0))
    vectors = encoder.encode(texts_of(range(5)), ids=range(5))
    assert vectors[:, 0].tolist() == [0, 1, 2, 3, 4]
    meter = encoder.meter
    assert (meter.texts, meter.tokens, meter.reused, meter.encoded) == (5, 10, 0, 5)
    assert encoder.texts_per_second is not None
    cost = encoder.cost(1000, 2_000_000)
    assert (cost.texts, cost.money) == (1000, 4.0)
    assert cost.hours == pytest.approx(1000 / encoder.texts_per_second / 3600)
    assert encoder.tokens_per_text(["one", None, "one two three"]) == 2


@pytest.mark.parametrize("budget", [Budget(texts=4), Budget(tokens=9)])
def test_beyond_the_budget_it_embeds_all_or_nothing_or_the_first(budget: Budget) -> None:
    inner = Numbers()
    encoder = MeteredEncoder(inner, Meter(budget))
    with pytest.raises(BudgetSpentError):
        encoder.encode(texts_of(range(5)), ids=range(5))
    assert (inner.asked, encoder.meter.texts) == ([], 0)
    first = encoder.encode(texts_of(range(7)), ids=range(7), partly=True)
    assert first[:, 0].tolist() == [0, 1, 2, 3]
    assert len(encoder.encode(texts_of([7]), ids=[7], partly=True)) == 0
    assert inner.asked == texts_of(range(4))


def test_what_is_stored_is_reused_and_put_on_the_account(tmp_path: Path) -> None:
    MeteredEncoder(Numbers(), store=store(tmp_path)).encode(texts_of(range(3)), ids=range(3))
    inner, done = Numbers(), []
    encoder = MeteredEncoder(inner, Meter(Budget(texts=5)), store(tmp_path))
    vectors = encoder.encode(texts_of([4, 2, 1]), ids=[4, 2, 1], progress=done.append)
    assert vectors[:, 0].tolist() == [4, 2, 1]
    assert (inner.asked, sum(done)) == (texts_of([4]), 3)
    assert (encoder.meter.texts, encoder.meter.reused) == (3, 2)
    # A changed text is another one, and what is not to be kept is asked for again.
    assert encoder.encode(["other 9"], ids=[2])[0, 0] == 9
    assert encoder.encode(texts_of([2]), ids=[2], keep=False)[0, 0] == 2
    assert inner.asked == ["text 4", "other 9", "text 2"]
    assert encoder.meter.exhausted
    with pytest.raises(MismatchError):
        EmbeddingStore(tmp_path, EncoderIdentity(name="else", dimension=2), "document")


def test_a_failure_keeps_what_was_bought_and_gives_the_rest_back(tmp_path: Path) -> None:
    budget, texts = Budget(texts=12), texts_of(range(10))
    failing = MeteredEncoder(Numbers(fails_at="text 7"), Meter(budget), store(tmp_path, 4))
    with pytest.raises(UnreachableError):
        failing.encode(texts, ids=range(10))
    assert (failing.meter.texts, failing.meter.tokens) == (4, 8)
    inner = Numbers()
    again = MeteredEncoder(inner, Meter(budget), store(tmp_path, 4))
    assert again.encode(texts, ids=range(10))[:, 0].tolist() == list(range(10))
    assert inner.asked == texts[4:]


def test_answers_that_are_not_usable_are_refused_and_not_kept(tmp_path: Path) -> None:
    class Short(Numbers):
        def encode(self, texts: Sequence[str] | None, **more: Any) -> np.ndarray:
            return super().encode(texts)[:-1]

    encoder = MeteredEncoder(Short(), Meter(Budget(texts=3)), store(tmp_path))
    with pytest.raises(InputError):
        encoder.encode(texts_of(range(3)), ids=range(3))
    assert encoder.meter.texts == 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError):
        encoder.encode(None, ids=range(3))


def test_threads_share_a_budget_to_the_last_text(tmp_path: Path) -> None:
    threads, size, most = 8, 5, 38
    # All threads are within the encoder at once, so that a budget seen too early is overspent.
    inner = Numbers(together=threads)
    encoder = MeteredEncoder(inner, Meter(Budget(texts=most)), store(tmp_path, size))

    def ask(thread: int) -> list[int]:
        numbers = range(size * thread, size * (thread + 1))
        vectors = encoder.encode(texts_of(numbers), ids=numbers, partly=True)
        found: list[int] = vectors[:, 0].astype(int).tolist()
        assert found == list(numbers)[: len(found)]
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = [number for numbers in pool.map(ask, range(threads)) for number in numbers]
        assert list(pool.map(ask, range(threads, 2 * threads))) == [[]] * threads
    meter = encoder.meter
    assert (len(found), len(set(found)), len(inner.asked)) == (most, most, most)
    assert (meter.texts, meter.tokens, meter.encoded) == (most, 2 * most, most)
    assert meter.exhausted
    kept = MeteredEncoder(Numbers(), store=store(tmp_path))
    assert kept.encode(texts_of(found), ids=found)[:, 0].tolist() == found
    assert kept.meter.reused == most


def test_a_budget_that_several_encoders_share_bounds_all_of_them() -> None:
    meter = Meter(Budget(texts=3))
    documents, queries = MeteredEncoder(Numbers(), meter), MeteredEncoder(Numbers(), meter)
    documents.encode(texts_of([1, 2]))
    assert len(queries.encode(texts_of([3, 4]), partly=True)) == 1
    assert meter.exhausted
    with pytest.raises(BudgetSpentError):
        documents.reuse(["a text"])
