"""Every route to the new encoder side by side, and the cheapest that meets the gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.cost_curve import SHARES, average_recall
from vecmigrate.dry_run.estimates import Analysis
from vecmigrate.dry_run.labelled import CUTOFF, LabelledProbes
from vecmigrate.dry_run.mixed import RANDOM, Mixture, Orders
from vecmigrate.dry_run.options import DryRunOptions
from vecmigrate.dry_run.resampling import PerDraw
from vecmigrate.dry_run.survey import VARIANCE
from vecmigrate.dry_run.two_stage import TwoStages
from vecmigrate.dry_run.verdict import judge
from vecmigrate.encoders.metered import Cost
from vecmigrate.errors import UsageError
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import (
    CostCurve,
    Estimate,
    LabelledMetric,
    Outcome,
    PairedDifference,
    QueryWork,
    RecallFigures,
    Route,
    RouteComparison,
    RouteKind,
    RouteMetric,
    RouteName,
    Verdict,
)

RESCORED = (20, 50, 100, 200)
"""Candidates of two stages that are tried."""

SHOWN_SHARES = (0.2, 0.5, 0.8)
"""Shares of a mixture that are always shown."""

MIGRATED_ORDERS = (VARIANCE, RANDOM)
"""By traffic, a migration prefers what queries find, and the curve what is near to them."""

TRIFLING_HOURS, TRIFLING_MONEY = 0.5, 1.0
"""Re-embedding everything within these is not worth a thought."""


@dataclass(frozen=True)
class Prices:
    """What routes cost.

    Attributes
    ----------
    embedding
        The cost of so many texts.
    population, bought
        Points, and those of them whose true vectors are there.
    tokens_per_text
        Mean.
    texts_per_second
        Of the new encoder; None if it was not measured.
    translating_hours
        For the whole corpus.
    """

    embedding: Callable[[int], Cost]
    population: int
    bought: int
    tokens_per_text: float
    texts_per_second: float | None
    translating_hours: float

    def switching(self, texts: int, *, translating: bool) -> Cost:
        """Return what is to be done until readers can be switched."""
        cost = self.embedding(max(0, texts))
        if not translating or (cost.hours is None and cost.texts):
            return cost
        return cost.model_copy(update={"hours": (cost.hours or 0.0) + self.translating_hours})


@dataclass(frozen=True)
class RouteMeasures:
    """Estimates what each route serves.

    Attributes
    ----------
    main, labelled
        The probes that recall is estimated on, and those with labels; None if there are none.
    recall, metrics
        Of the translated collection, and of that and the re-embedded one by labels.
    """

    main: Analysis
    labelled: LabelledProbes | None
    recall: RecallFigures
    metrics: list[LabelledMetric]
    metric: Metric
    options: DryRunOptions
    probes: int
    labelled_probes: int
    prices: Prices

    def rows(self, curve: CostCurve) -> list[Route]:
        """Measure every route.

        Raises
        ------
        UsageError
            If a gate cannot be judged.
        """
        return [
            self._translated(),
            *(self._two_stage(depth) for depth in RESCORED if depth < self._depth),
            *self._mixtures(curve),
            self._reembedded(),
        ]

    @property
    def _depth(self) -> int:
        return int(self.main.candidates.scores.shape[1])

    @cached_property
    def _orders(self) -> Orders:
        return Orders.of(self.main)

    @cached_property
    def _labelled_orders(self) -> Orders:
        assert self.labelled is not None
        return Orders.of(self.labelled.analysis)

    @cached_property
    def _labelled_refits(self) -> dict[str, NDArray[np.float64]]:
        assert self.labelled is not None
        return self.labelled.refits()

    @cached_property
    def _cutoffs(self) -> list[int]:
        """recall@k is told for ten and for what gates ask."""
        asked = (gate.partition("min-recall@")[2] for gate in self.options.gates)
        wanted = {CUTOFF, *(int(k) for k in asked if k)}
        return sorted(k for k in wanted if k in self.recall.at)

    def _figures(
        self, recall: Callable[[int], Estimate], ndcg: Callable[[], Estimate]
    ) -> dict[str, Estimate]:
        figures = {f"recall@{k}": _share(recall(k)) for k in self._cutoffs}
        if f"min-ndcg@{CUTOFF}" in self.options.gates:
            figures[f"nDCG@{CUTOFF}"] = _share(ndcg())
        return figures

    def _row(
        self,
        kind: RouteKind,
        figures: dict[str, Estimate],
        labelled: list[RouteMetric],
        cost: Cost,
    ) -> Route:
        verdict = judge(self.options.gates, figures, labelled, self.probes, self.labelled_probes)
        return Route(
            kind=kind,
            figures=figures,
            labelled=labelled,
            cost=cost,
            over_horizon=cost,
            outcome=verdict.outcome,
            gates=verdict.gates,
        )

    def _translated(self) -> Route:
        labelled = [_moved(m.name, m.translated, m.translated_minus_old) for m in self.metrics]
        figures = self._figures(lambda k: self.recall.at[k], lambda: self.recall.ndcg_at_10)
        cost = self.prices.switching(0, translating=True)
        return self._row(RouteKind.TRANSLATE, figures, labelled, cost)

    def _reembedded(self) -> Route:
        labelled = [_moved(m.name, m.reembedded, m.reembedded_minus_old) for m in self.metrics]
        all_of_it = Estimate(value=1.0, low=1.0, high=1.0)
        figures = self._figures(lambda _: all_of_it, lambda: all_of_it)
        left = self.prices.population - self.prices.bought
        cost = self.prices.switching(left, translating=False)
        return self._row(RouteKind.REEMBED, figures, labelled, cost)

    def _two_stage(self, depth: int) -> Route:
        stages = TwoStages(self.main, depth)
        figures = self._figures(
            lambda k: self.main.estimate(lambda order: stages.recall(k, order)),
            lambda: self.main.estimate(lambda order: stages.ndcg(CUTOFF, order)),
        )
        labelled = []
        if self.labelled is not None:
            theirs = TwoStages(self.labelled.analysis, depth)
            found = self.labelled.metrics(theirs.ranks(self.labelled.relevant))
            refits = [
                self.labelled.metrics(theirs.ranks(self.labelled.relevant, order))
                for order in self.labelled.analysis.orders
            ]
            varied = {
                name: np.stack([refit[name].mean(axis=0) for refit in refits]) for name in found
            }
            labelled = list(self._metrics(found, varied))
        cost = self.prices.switching(0, translating=True)
        per_day, horizon = self.options.queries_per_day, None
        if per_day is not None:
            queries = max(1, round(per_day * self.options.horizon_days))
            left = self.prices.population - self.prices.bought
            texts = min(round(stages.texts_of(queries).value), left)
            horizon = self.prices.switching(texts, translating=True)
        row = self._row(RouteKind.TWO_STAGE, figures, labelled, cost)
        of_stages = {"candidates": depth, "over_horizon": horizon, "query": self._work(stages)}
        return row.model_copy(update=of_stages)

    def _work(self, stages: TwoStages) -> QueryWork:
        queries = self.options.queries_per_day or 1
        first_day = stages.texts_of(queries)
        texts = Estimate(
            **{name: value / queries for name, value in first_day.model_dump().items()}
        )
        speed = self.prices.texts_per_second
        return QueryWork(
            texts=texts,
            tokens=round(texts.value * self.prices.tokens_per_text, 1),
            seconds=None if speed is None else texts.value / speed,
        )

    def _mixtures(self, curve: CostCurve) -> Iterator[Route]:
        """The shares that are shown, and the least that meets the gates and the target."""
        anchors, target = self.main.anchor_share, self.options.target_recall
        order = self._order(curve)
        met = False
        for share in SHARES:
            if share <= anchors or (met and share not in SHOWN_SHARES):
                continue
            route = self._mixture(order, share)
            low = route.figures[f"recall@{CUTOFF}"].low
            meets = route.outcome is not Outcome.MEASURED or target is not None
            meets &= route.outcome in (Outcome.GO, Outcome.MEASURED)
            meets &= target is None or low >= target
            if share in SHOWN_SHARES or (meets and not met):
                yield route
            met = met or meets

    def _order(self, curve: CostCurve) -> str:
        """The order asked for, or the best of those that a migration takes as the curve does."""
        if self.options.curve_order in MIGRATED_ORDERS:
            return str(self.options.curve_order)
        lines = [line for line in curve.lines if line.order in MIGRATED_ORDERS]
        return max(lines, key=average_recall).order

    def _mixture(self, order: str, share: float) -> Route:
        mixture = Mixture(self.main, self.metric, self._orders, order, share)
        truth, main = self.main.truth, self.main

        def estimate(values: PerDraw, translated: Callable[..., PerDraw]) -> Estimate:
            return main.resampler.estimate(values, (1 - share) * main.refitted(translated))

        figures = self._figures(
            lambda k: estimate(mixture.recall(k), lambda order: truth.recall(k, order)),
            lambda: estimate(mixture.ndcg(CUTOFF), lambda order: truth.ndcg(CUTOFF, order)),
        )
        labelled = []
        if self.labelled is not None:
            theirs = Mixture(
                self.labelled.analysis, self.metric, self._labelled_orders, order, share
            )
            found = self.labelled.metrics(theirs.ranks(self.labelled.relevant, CUTOFF))
            refits = self._labelled_refits
            labelled = list(
                self._metrics(found, {name: (1 - share) * refits[name] for name in found})
            )
        prices = self.prices
        # All that is bought has its own vectors; what is left of the share is chosen by the order.
        to_embed = round(share * prices.population) - prices.bought
        cost = prices.switching(to_embed, translating=True)
        row = self._row(RouteKind.MIXED, figures, labelled, cost)
        return row.model_copy(update={"share": share, "order": order})

    def _metrics(
        self, found: Mapping[str, PerDraw], refits: Mapping[str, NDArray[np.float64]]
    ) -> Iterator[RouteMetric]:
        """Metrics of what a route serves.

        Parameters
        ----------
        refits
            By metric, ``(g, probes)`` under each refit.
        """
        assert self.labelled is not None
        old, resampler = self.labelled.old, self.labelled.resampler
        for name, values in found.items():
            minus = None
            if old is not None:
                minus = resampler.estimate(values - old[name], refits[name])
            value = _share(resampler.estimate(values, refits[name]))
            yield RouteMetric(name=name, value=value, minus_old=minus)


def _share(found: Estimate) -> Estimate:
    """Cut an interval to what a share can be."""
    return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 1.0)})


def _moved(name: str, value: Estimate, change: PairedDifference | None) -> RouteMetric:
    minus = None if change is None else change.difference
    return RouteMetric(name=name, value=value, minus_old=minus)


def choose_route(rows: list[Route], options: DryRunOptions) -> tuple[RouteComparison, Verdict]:
    """Take the cheapest route of those asked for that meets the gates, and decide.

    By money, or by tokens if there is no price, and then by time, over the horizon. Two stages
    embed for as long as texts stay translated: without the number of queries they are not taken.

    Raises
    ------
    UsageError
        If there is no route of the kind asked for.
    """
    everything = next(row for row in rows if row.kind is RouteKind.REEMBED)
    trifling = _is_trifling(everything)
    asked = [row for row in rows if _is_asked(row, everything, options.route)]
    if not asked:
        raise UsageError(
            f"there is no {options.route} route here: too few points are no anchors",
            remedy="Ask for another --route.",
        )
    best_first = (Outcome.GO, Outcome.MEASURED, Outcome.TOO_SMALL, Outcome.NO_GO)
    outcome = next(one for one in best_first if any(row.outcome is one for row in asked))
    these = [row for row in asked if row.outcome is outcome]
    chosen, nearest = min(these, key=_price), max(these, key=_recall)
    if trifling and everything in these:
        chosen = everything
    good = outcome in (Outcome.GO, Outcome.MEASURED)
    comparison = RouteComparison(
        asked=options.route,
        horizon_days=options.horizon_days,
        queries_per_day=options.queries_per_day,
        rows=rows,
        chosen=rows.index(chosen) if good else None,
        trifling=trifling,
    )
    return comparison, Verdict(outcome=outcome, gates=(chosen if good else nearest).gates)


def _is_asked(row: Route, everything: Route, route: RouteName) -> bool:
    if route is not RouteName.AUTO:
        return row.kind.value == route.value
    # Texts are embedded for as long as the collection is not native, then as many as all.
    return row.kind is not RouteKind.TWO_STAGE or (
        row.over_horizon is not None and _price(row)[0] < _price(everything)[0]
    )


def _recall(row: Route) -> float:
    return row.figures[f"recall@{CUTOFF}"].value


def _price(row: Route) -> tuple[float, float]:
    cost = row.over_horizon or row.cost
    return (cost.tokens if cost.money is None else cost.money), cost.hours or 0.0


def _is_trifling(everything: Route) -> bool:
    cost = everything.cost
    return (
        cost.hours is not None
        and cost.hours <= TRIFLING_HOURS
        and (cost.money or 0.0) <= TRIFLING_MONEY
    )
