"""Routes side by side: what each serves, what queries embed, and which one is chosen."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from vecmigrate.connector import Metric
from vecmigrate.dry_run.accumulation import REACH, different_documents
from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.labelled import RelevantScores, ranked_metrics
from vecmigrate.dry_run.mixed import Mixture, Orders
from vecmigrate.dry_run.options import DryRunOptions
from vecmigrate.dry_run.resampling import Truth
from vecmigrate.dry_run.routes import choose_route
from vecmigrate.dry_run.survey import Candidates
from vecmigrate.dry_run.truth import Imputed
from vecmigrate.dry_run.two_stage import TwoStages
from vecmigrate.encoders.metered import Cost
from vecmigrate.errors import UsageError
from vecmigrate.evaluation import labelled_recall, ndcg, recall_against, reciprocal_rank
from vecmigrate.report.schema import Estimate, Outcome, Route, RouteKind

PROBES, POINTS, ANCHORS = 20, 300, 30


class Known:
    """An analysis in which every point is a candidate with a known true score."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = rng = np.random.default_rng(seed)
        noise = rng.standard_normal((2, PROBES, POINTS)).astype(np.float32)
        translated = -np.sort(-noise[0], axis=1)
        self.true = translated + 0.5 * noise[1]
        self.translated = translated
        # Points have another place in each probe's ranking.
        self.ids = np.stack([rng.permutation(POINTS) for _ in range(PROBES)])
        self.anchors = self.ids < ANCHORS
        imputed = Imputed(self.true[None], np.full((PROBES, 1), -np.inf, np.float32), POINTS, 1.0)
        self.truth = Truth.draw(imputed, (1, 10, 100), rng)
        self.best = np.take_along_axis(self.ids, np.argsort(-self.true, axis=1), axis=1)
        self.labels = [
            {
                int(i): float(g)
                for i, g in zip(rng.choice(POINTS, 3, False), rng.random(3), strict=True)
            }
            for _ in range(PROBES)
        ]

    def analysis(self, scale: float = 1.0) -> Analysis:
        facts = SimpleNamespace(
            measured=SimpleNamespace(
                known=SimpleNamespace(anchors=ANCHORS),
                survey=SimpleNamespace(population=POINTS),
                mixing_scale=scale,
            ),
            candidates=Candidates(POINTS, self.ids, self.translated),
            true=SimpleNamespace(anchors=self.anchors, beyond_rows=np.zeros((PROBES, 1), np.intp)),
            truth=self.truth,
            anchor_share=ANCHORS / POINTS,
            seed=0,
        )
        return cast(Analysis, facts)

    def relevant(self) -> RelevantScores:
        pairs = [(p, i, g) for p, own in enumerate(self.labels) for i, g in own.items()]
        columns = np.array([int(np.flatnonzero(self.ids[p] == i)[0]) for p, i, _ in pairs])
        probes = np.array([p for p, _, _ in pairs])
        return RelevantScores(
            probes,
            np.array([g for _, _, g in pairs]),
            self.true[probes, columns][None],
            columns,
            np.full(len(pairs), -1),
        )

    def check_labels(self, ranks: np.ndarray, served: np.ndarray) -> None:
        found = ranked_metrics(ranks, self.relevant(), self.labels)
        for name, metric in (
            ("recall@10", labelled_recall), ("MRR@10", reciprocal_rank), ("nDCG@10", ndcg)
        ):  # fmt: skip
            np.testing.assert_allclose(found[name][0], metric(served, self.labels, 10))


@pytest.mark.parametrize("depth", [20, 100])
@pytest.mark.parametrize("shuffled", [False, True])
def test_two_stages_serve_the_best_of_their_candidates(depth: int, shuffled: bool) -> None:
    known = Known()
    order = np.argsort(known.rng.random((PROBES, POINTS)), axis=1) if shuffled else None
    of = np.tile(np.arange(POINTS), (PROBES, 1)) if order is None else order
    first = np.take_along_axis(known.ids, of[:, :depth], axis=1)
    scores = np.take_along_axis(known.true, of[:, :depth], axis=1)
    served = np.take_along_axis(first, np.argsort(-scores, axis=1), axis=1)
    stages = TwoStages(known.analysis(), depth)
    for k in (1, 10):
        np.testing.assert_allclose(
            stages.recall(k, order)[0], recall_against(served, known.best, k)
        )
    ideal = [dict.fromkeys(row[:10].tolist(), 1.0) for row in known.best]
    np.testing.assert_allclose(stages.ndcg(10, order)[0], ndcg(served, ideal, 10))
    known.check_labels(stages.ranks(known.relevant(), order), served)


@pytest.mark.parametrize("scale", [1.0, 0.8])
@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_a_mixture_serves_true_vectors_beside_translated_ones(share: float, scale: float) -> None:
    known = Known(1)
    before = known.rng.random(POINTS)
    places = before[known.ids]
    orders = Orders({"some": places}, known.rng.random((1, PROBES, 1)))
    rest = (share - ANCHORS / POINTS) / (1 - ANCHORS / POINTS)
    fresh = known.anchors | (places < rest)
    scores = np.where(fresh, known.true, np.float32(scale) * known.translated)
    served = np.take_along_axis(known.ids, np.argsort(-scores, axis=1), axis=1)
    mixture = Mixture(known.analysis(scale), Metric.DOT, orders, "some", share)
    for k in (1, 10):
        np.testing.assert_allclose(mixture.recall(k)[0], recall_against(served, known.best, k))
    ideal = [dict.fromkeys(row[:10].tolist(), 1.0) for row in known.best]
    np.testing.assert_allclose(mixture.ndcg(10)[0], ndcg(served, ideal, 10))
    known.check_labels(mixture.ranks(known.relevant(), 10), served)


def met_by(rng: np.random.Generator, queries: int, documents: int, each: int) -> np.ndarray:
    odds = rng.random(documents) ** 4
    return np.stack([rng.choice(documents, each, False, odds / odds.sum()) for _ in range(queries)])


def test_fewer_queries_than_seen_meet_the_mean_over_all_choices() -> None:
    met = met_by(np.random.default_rng(2), 7, 40, 6)
    met[0, 3:] = -1
    for queries in range(1, 8):
        counts = [
            len(set(met[list(rows)].ravel().tolist()) - {-1})
            for rows in combinations(range(7), queries)
        ]
        assert different_documents(met, queries, 40).value == pytest.approx(np.mean(counts))


def test_more_queries_than_seen_meet_what_is_estimated() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(40):
        met = met_by(rng, 300, 3000, 10)
        seen, truth = met[:120], len(set(met.ravel().tolist()))
        found = different_documents(seen, 300, 3000)
        assert found.value == pytest.approx(truth, rel=0.1)
        covered += found.low <= truth <= found.high
    assert covered >= 30


def test_many_more_queries_are_bounded_from_both_sides() -> None:
    rng = np.random.default_rng(4)
    met = met_by(rng, 2000, 3000, 10)
    truth = len(set(met.ravel().tolist()))
    found = different_documents(met[:100], 2000, 3000)
    assert REACH * 100 < 2000
    assert found.low <= truth <= found.value <= found.high <= 3000
    assert different_documents(met[:100], 10**9, 3000).value == 3000
    everything = np.tile(np.arange(5), (4, 1))
    assert different_documents(everything, 100, 3000).value == 5


def route(
    kind: RouteKind,
    outcome: Outcome,
    texts: int,
    *,
    runnable: bool = True,
    hours: float | None = 10.0,
    recall: float = 0.5,
    **more: Any,
) -> Route:
    cost = Cost(texts=texts, tokens=10 * texts, hours=hours, money=texts / 1000)
    facts = {"over_horizon": cost, **more}
    return Route(
        kind=kind,
        figures={"recall@10": Estimate(value=recall, low=recall, high=recall)},
        labelled=[],
        cost=cost,
        runnable=runnable,
        outcome=outcome,
        gates=[],
        **facts,
    )


def rows(two_stage: int | None = None, **of: Any) -> list[Route]:
    horizon = (
        None
        if two_stage is None
        else Cost(texts=two_stage, tokens=0, hours=1, money=two_stage / 1000)
    )
    given = {"translate": Outcome.NO_GO, "two": Outcome.GO, "mixed": Outcome.GO,
             "all": Outcome.GO, **of}  # fmt: skip
    return [
        route(RouteKind.TRANSLATE, given["translate"], 0),
        route(RouteKind.TWO_STAGE, given["two"], 0, over_horizon=horizon),
        route(RouteKind.MIXED, given["mixed"], 6000, recall=0.8),
        route(RouteKind.REEMBED, given["all"], 9000, recall=1.0, hours=given.get("hours", 10.0)),
    ]


def chosen(given: list[Route], **options: Any) -> tuple[RouteKind | None, Outcome]:
    comparison, verdict = choose_route(given, DryRunOptions(**options))
    choice = comparison.choice
    return None if choice is None else choice.kind, verdict.outcome


def test_the_cheapest_route_that_meets_the_gates_is_chosen() -> None:
    assert chosen(rows()) == (RouteKind.MIXED, Outcome.GO)
    assert chosen(rows(translate=Outcome.GO)) == (RouteKind.TRANSLATE, Outcome.GO)
    assert chosen(rows(mixed=Outcome.TOO_SMALL)) == (RouteKind.REEMBED, Outcome.GO)


def test_two_stages_are_taken_for_what_queries_cost() -> None:
    assert chosen(rows(two_stage=5000)) == (RouteKind.TWO_STAGE, Outcome.GO)
    assert chosen(rows(two_stage=7000)) == (RouteKind.MIXED, Outcome.GO)
    # Once all is embedded, a collection of the new encoder's own vectors serves more for as much.
    dear = rows(two_stage=9000, mixed=Outcome.NO_GO)
    assert chosen(dear) == (RouteKind.REEMBED, Outcome.GO)


def test_the_route_asked_for_is_judged_alone() -> None:
    assert chosen(rows(), route="translate") == (None, Outcome.NO_GO)
    assert chosen(rows(mixed=Outcome.TOO_SMALL), route="mixed") == (None, Outcome.TOO_SMALL)
    assert chosen(rows(), route="re-embed") == (RouteKind.REEMBED, Outcome.GO)
    without = [row for row in rows() if row.kind is not RouteKind.MIXED]
    with pytest.raises(UsageError, match="no mixed route"):
        chosen(without, route="mixed")


def test_none_is_chosen_if_none_meets_the_gates() -> None:
    nothing = dict.fromkeys(("translate", "two", "mixed", "all"), Outcome.NO_GO)
    assert chosen(rows(**nothing)) == (None, Outcome.NO_GO)
    unsure = {**nothing, "mixed": Outcome.TOO_SMALL}
    assert chosen(rows(**unsure)) == (None, Outcome.TOO_SMALL)


def test_everything_is_re_embedded_if_that_is_a_trifle() -> None:
    cheap = rows(translate=Outcome.GO, hours=0.3)
    cost = cheap[3].cost.model_copy(update={"money": 0.01})
    cheap[3] = cheap[3].model_copy(update={"cost": cost})
    assert chosen(cheap) == (RouteKind.REEMBED, Outcome.GO)
    unmeasured = dict.fromkeys(("translate", "two", "mixed", "all"), Outcome.MEASURED)
    assert chosen(rows(**unmeasured)) == (RouteKind.TRANSLATE, Outcome.MEASURED)
    dear = rows(translate=Outcome.GO, hours=0.3)
    assert chosen(dear) == (RouteKind.TRANSLATE, Outcome.GO)
