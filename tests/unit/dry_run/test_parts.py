"""The parts of the dry run: candidates, imputation, resampling, gates, budgets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import EncoderIdentity, Metric, VectorBatch
from vecmigrate.dry_run.labelled import RelevantScores, ranked_metrics, reembedded_ranks
from vecmigrate.dry_run.purchases import affordable
from vecmigrate.dry_run.resampling import DOUBT, Resampler, Truth
from vecmigrate.dry_run.survey import Candidates
from vecmigrate.dry_run.truth import Imputed, impute
from vecmigrate.dry_run.verdict import judge
from vecmigrate.encoders.metered import Budget, count_tokens
from vecmigrate.errors import InputError, UsageError
from vecmigrate.evaluation import (
    exact_search,
    labelled_recall,
    ndcg,
    recall_against,
    reciprocal_rank,
)
from vecmigrate.evaluation.queries import read_labels
from vecmigrate.evaluation.search import score_matrix
from vecmigrate.report.schema import Estimate, Outcome


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 39), max_size=6),
    depth=st.integers(1, 50),
    named=st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_candidates_do_not_depend_on_how_the_stream_is_cut(
    seed: int, cuts: list[int], depth: int, named: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores, extra = normal(rng, 3, 40), normal(rng, 40)
    ids = np.array([f"p{i}" for i in range(40)], object) if named else np.arange(40)
    found = Candidates(depth)
    edges = [0, *sorted(set(cuts)), 40]
    for start, end in pairwise(edges):
        found.add(ids[start:end], scores[:, start:end], extra=extra[start:end])
    found.sort()
    order = np.argsort(-scores, axis=1)[:, :depth]
    assert found.ids.tolist() == ids[order].tolist()
    np.testing.assert_array_equal(found.columns["extra"], extra[order])


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_rank_as_exact_search_does(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    queries, points = normal(rng, 5, 7), normal(rng, 60, 7)
    scores = score_matrix(queries, points, metric)
    found = exact_search([VectorBatch(np.arange(60), points)], queries, 10, metric)
    assert np.argsort(-scores, axis=1)[:, :10].tolist() == found.tolist()


def everything_known(true: np.ndarray, population: int) -> Imputed:
    beyond = np.full((len(true), 1), -np.inf, np.float32)
    return Imputed(true[None], beyond, population, 1.0)


def test_with_every_score_known_recall_is_exact() -> None:
    rng = np.random.default_rng(1)
    translated = -np.sort(-normal(rng, 20, 300), axis=1)
    true = translated + 0.5 * normal(rng, 20, 300)
    truth = Truth.draw(everything_known(true, 300), (1, 10, 100), rng)
    mine = np.tile(np.arange(300), (20, 1))
    theirs = np.argsort(-true, axis=1)
    for k in (1, 10, 100):
        np.testing.assert_allclose(truth.recall(k)[0], recall_against(mine, theirs, k))
    labels = [dict.fromkeys(row[:10].tolist(), 1.0) for row in theirs]
    np.testing.assert_allclose(truth.ndcg(10)[0], ndcg(mine, labels, 10))
    shuffled = np.argsort(rng.random((20, 300)), axis=1)
    np.testing.assert_allclose(truth.recall(10, shuffled)[0], recall_against(shuffled, theirs, 10))


def test_with_every_score_known_labelled_metrics_are_exact() -> None:
    rng = np.random.default_rng(2)
    true = normal(rng, 20, 60)
    truth = Truth.draw(everything_known(true, 60), (10,), rng)
    labels = [
        {int(i): float(g) for i, g in zip(rng.choice(60, 3, False), rng.random(3), strict=True)}
        for _ in range(20)
    ]
    pairs = [(p, i, g) for p, own in enumerate(labels) for i, g in own.items()]
    relevant = RelevantScores(
        np.array([p for p, _, _ in pairs]),
        np.array([g for _, _, g in pairs]),
        np.array([[true[p, i] for p, i, _ in pairs]], np.float32),
        np.array([i for _, i, _ in pairs]),
        np.full(len(pairs), -1),
    )
    ranks = reembedded_ranks(truth, relevant, rng)
    theirs = np.argsort(-true, axis=1)
    found = ranked_metrics(ranks, relevant, labels)
    for name, metric in (
        ("recall@10", labelled_recall), ("MRR@10", reciprocal_rank), ("nDCG@10", ndcg)
    ):  # fmt: skip
        np.testing.assert_allclose(found[name][0], metric(theirs, labels, 10))


def test_imputed_scores_are_like_the_true_ones_and_known_ones_stay() -> None:
    rng = np.random.default_rng(3)
    translated = -np.sort(-normal(rng, 200, 100), axis=1)
    true = translated - 0.3 + 0.2 * normal(rng, 200, 100)
    seen = rng.random(true.shape) < 0.2
    filled = impute(translated, np.where(seen, true, np.nan), seen, seen, [], rng)
    np.testing.assert_array_equal(filled[:, seen], np.broadcast_to(true[seen], (10, seen.sum())))
    differences = (filled - translated)[:, ~seen]
    assert differences.mean() == pytest.approx(-0.3, abs=0.01)
    assert differences.std() == pytest.approx(0.2, abs=0.01)


def test_what_was_bought_for_another_reason_does_not_shape_the_imputed() -> None:
    rng = np.random.default_rng(4)
    translated = -np.sort(-normal(rng, 50, 100), axis=1)
    true = translated.copy()
    special = rng.random(true.shape) < 0.2
    true[special] += 5
    seen = rng.random(true.shape) < 0.2
    known = np.where(seen | special, true, np.nan)
    filled = impute(translated, known, seen & ~special, seen, [], rng)
    unknown = np.isnan(known)
    for draw in filled:
        np.testing.assert_allclose(draw[unknown], translated[unknown], atol=1e-6)


def test_what_traits_and_chance_tell_of_differences_is_put_back() -> None:
    rng = np.random.default_rng(11)
    translated = -np.sort(-normal(rng, 200, 300), axis=1)
    trait = rng.random(translated.shape).astype(np.float32) - 0.5
    drawn = rng.random(translated.shape) < 0.05
    favoured = rng.random(translated.shape) < 0.3
    # A trait moves and widens the differences, and what is bought for others is overrated.
    true = translated + 0.4 * trait + np.exp(trait) * 0.2 * normal(rng, 200, 300)
    true -= np.where(favoured, 0.2, 0)
    seen = drawn | favoured
    filled = impute(translated, np.where(seen, true, np.nan), seen, drawn & ~favoured, [trait], rng)
    further = np.broadcast_to(np.arange(300) >= 10, seen.shape) & ~seen
    for part in (trait < -0.25, np.abs(trait) < 0.25, trait > 0.25):
        mine, theirs = ((scores - translated)[..., part & further] for scores in (filled, true))
        assert mine.mean() == pytest.approx(theirs.mean(), abs=0.02)
        assert mine.std() == pytest.approx(theirs.std(), rel=0.1)


def test_nothing_is_unseen_where_the_candidates_are_the_corpus() -> None:
    rng = np.random.default_rng(5)
    true = normal(rng, 10, 64)
    imputed = everything_known(true, 64)
    assert imputed.beyond_rate(imputed.best(10)[:, :, 9]) == 0


def test_the_number_unseen_is_carried_on_from_what_is_seen() -> None:
    rng = np.random.default_rng(6)
    population, depth, k = 8192, 1024, 100
    translated = -np.sort(-normal(rng, 150, population), axis=1)
    true = (translated + 0.8 * normal(rng, 150, population)).astype(np.float32)
    threshold = -np.partition(-true, k - 1, axis=1)[:, k - 1]
    outside = (true[:, depth:] >= threshold[:, None]).sum(axis=1).mean()
    beyond = np.full((150, 1), -np.inf, np.float32)
    imputed = Imputed(true[None, :, :depth], beyond, population, 0.0)
    assert outside / DOUBT < imputed.beyond_rate(threshold[None]) < outside * DOUBT


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        sample = rng.beta(2, 2, 120)
        estimate = Resampler(120, seed).estimate(sample[None])
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_anchors_that_matter_widen_the_interval() -> None:
    rng = np.random.default_rng(8)
    values = rng.random((1, 200))
    resampler = Resampler(200, 0)
    alone = resampler.estimate(values)
    refits = values + np.array([-0.1, -0.05, 0, 0.05, 0.1])[:, None]
    both = resampler.estimate(values, refits)
    assert both.high - both.low > 1.5 * (alone.high - alone.low)
    still = resampler.estimate(values, np.repeat(values, 5, axis=0))
    assert (still.low, still.high) == (alone.low, alone.high)


def test_p_values_are_small_for_a_difference_and_spread_without_one() -> None:
    rng = np.random.default_rng(9)
    values, others = rng.random((2, 1, 300))
    assert Resampler(300, 0).compare(values + 0.3, values).p_value < 0.001
    found = [
        Resampler(60, seed).compare(*rng.standard_normal((2, 1, 60))).p_value for seed in range(100)
    ]
    assert np.mean(np.array(found) < 0.05) < 0.15
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.2)
    assert Resampler(300, 0).compare(others, others).p_value == 1


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("8500", Budget(texts=8500)),
        ("8,500 texts", Budget(texts=8500)),
        ("1 text", Budget(texts=1)),
        ("200_000 tokens", Budget(tokens=200_000)),
    ],
)
def test_budgets_are_read(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize("text", ["", "many", "-5", "5 euros", "1.5 texts"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a budget"):
        Budget.parse(text)


class _Counting:
    identity = EncoderIdentity(name="m", dimension=1)
    needs_texts = True

    def encode(self, texts: object, **more: object) -> np.ndarray:
        raise NotImplementedError

    def count_tokens(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def test_tokens_are_counted_by_the_encoder_where_it_can() -> None:
    assert count_tokens(_Counting(), ["one two three", None]) == [3, 0]


def test_only_whole_probes_are_paid_for() -> None:
    wanted = [[1, 2], [2, 3], [4, 5]]
    tokens = dict.fromkeys(range(1, 6), 10)
    assert affordable(wanted, set(), tokens, 3, None) == 2
    assert affordable(wanted, set(), tokens, 2, None) == 1
    assert affordable(wanted, {1, 2, 3}, tokens, 2, None) == 3
    assert affordable(wanted, set(), tokens, None, 39) == 2
    assert affordable(wanted, set(), {}, 0, 0) == 3


def figures(value: float, half: float) -> dict[str, Estimate]:
    estimate = Estimate(value=value, low=value - half, high=value + half)
    return {"recall@10": estimate, "nDCG@10": estimate}


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (0.95, Outcome.GO),
        (0.92, Outcome.TOO_SMALL),
        (0.88, Outcome.TOO_SMALL),
        (0.8, Outcome.NO_GO),
    ],
)
def test_a_gate_asks_the_whole_interval(value: float, outcome: Outcome) -> None:
    verdict = judge({"min-recall@10": 0.9}, figures(value, 0.04), [], 100, 0)
    assert verdict.outcome is outcome
    gate = verdict.gates[0]
    assert (gate.more_probes is not None) is (outcome is Outcome.TOO_SMALL)
    if gate.more_probes is not None:
        # With so many probes in all, the interval would end at the threshold.
        half = 0.04 * np.sqrt(100 / (100 + gate.more_probes))
        assert half == pytest.approx(abs(value - 0.9), rel=0.02)


def test_one_failed_gate_outweighs_one_that_is_unsure() -> None:
    thresholds = {"min-recall@10": 0.9, "min-ndcg@10": 0.99}
    assert judge(thresholds, figures(0.92, 0.04), [], 100, 0).outcome is Outcome.NO_GO
    with pytest.raises(UsageError, match="too small for k = 50"):
        judge({"min-recall@50": 0.9}, figures(0.9, 0.01), [], 100, 0)


def test_labels_are_read_in_both_forms(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text('{"id": 1, "relevant": [5, "a"]}\n\n1 0 7 3\nq2 Q0 doc9 1\nq2 Q0 doc8 0\n')
    assert read_labels(path) == {1: {5: 1.0, "a": 1.0, 7: 3.0}, "q2": {"doc9": 1.0}}
    for content, message in (
        ("1 0 7\n", "line 1 is not a label"),
        ('{"id": 1, "relevant": 5}\n', "line 1 is not a label"),
        ("1 0 7 much\n", "line 1 is not a label"),
        ("1 0 7 0\n", "holds no labels"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_labels(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "absent")
