"""What a dry run is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import Field, field_validator

from vecmigrate.anchors import Strategy
from vecmigrate.encoders import Budget
from vecmigrate.encoders.options import BudgetText
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.screening import BadVectorPolicy, OnBadVector
from vecmigrate.report.schema import RouteName
from vecmigrate.runtime.durations import Duration, parse_duration
from vecmigrate.runtime.options import OnLine, Options, Seed, Share
from vecmigrate.translators.fit import AUTO, Method

CUTOFFS = (1, 5, 10, 50, 100)

DEFAULT_ANCHORS = 4000
DEFAULT_MEASURING = 4500
"""Texts re-embedded besides the anchors."""

MIN_ANCHORS = 50

COST, QUERIES, ROUTES = "Cost of re-embedding", "Queries", "Routes"
"""Groups of options in the help."""


class Stage(Protocol):
    """Shows progress: a context that yields a function to call with units just done."""

    def __call__(
        self,
        what: str,
        total: int | None,
        *,
        bytes_each: int = ...,
        unit: str = ...,
        note: Callable[[], str] | None = ...,
    ) -> AbstractContextManager[Callable[[int], None]]: ...


def silent(
    what: str,
    total: int | None,
    *,
    bytes_each: int = 0,
    unit: str = "vec",
    note: Callable[[], str] | None = None,
) -> AbstractContextManager[Callable[[int], None]]:
    """Show no progress."""
    return nullcontext(lambda count: None)


GATES = {
    "min-recall@1": "recall@1 against full re-embedding, at least.",
    "min-recall@5": "recall@5, likewise.",
    "min-recall@10": "recall@10, likewise.",
    "min-recall@50": "recall@50, likewise.",
    "min-recall@100": "recall@100, likewise.",
    "min-ndcg@10": "nDCG@10 against full re-embedding, at least.",
    "max-loss-recall@10": "Labelled recall@10 lost against the old collection, at most.",
    "max-loss-mrr@10": "Labelled MRR@10, likewise.",
    "max-loss-ndcg@10": "Labelled nDCG@10, likewise.",
}
"""Bounds that decide between go and no-go; see :func:`vecmigrate.dry_run.verdict.decide`."""

if TYPE_CHECKING:
    GateName: TypeAlias = str
else:
    GateName = Literal[tuple(GATES)]


class MeasureOptions(Options):
    """How a move is measured and the map fitted, as a job's file may say it too.

    The order of re-embedding is that of the cost curve.
    """

    anchors: Annotated[Annotated[int, Field(ge=2)] | Path | None, OnLine(metavar="N|FILE")] = Field(
        default=None,
        description="How many to draw (default: 4,000, at most a fifth of the corpus), or a file "
        "that `anchors` wrote.",
    )
    budget: Annotated[BudgetText, OnLine(metavar="N [texts|tokens]", panel=COST)] = Field(
        default=None,
        description="Bound on all that is re-embedded, drawn anchors included, as `8500` or "
        "`200000 tokens`; default: the anchors and 4,500 texts, at most half of the corpus.",
    )
    method: Method = AUTO
    texts: Annotated[bool, OnLine("--texts/--vectors-only")] = Field(
        default=True,
        description="Translate by the points' texts too, if the new encoder's token table is here.",
    )
    strategy: Literal[Strategy.KMEANS, Strategy.UNIFORM] = Field(
        default=Strategy.KMEANS, description="How anchors are chosen."
    )
    price_per_million_tokens: Annotated[
        Annotated[float, Field(ge=0)] | None, OnLine(panel=COST)
    ] = Field(default=None, description="Price of a million tokens, in any currency.")
    target_recall: Annotated[Share | None, OnLine(panel=COST)] = Field(
        default=None, description="Name the cheapest re-embedding with this recall@10."
    )
    order: Annotated[Literal["best", "uncertainty", "traffic", "random"], OnLine(panel=COST)] = (
        Field(default="best", description="In which order more of the corpus would be re-embedded.")
    )
    queries_per_day: Annotated[Annotated[int, Field(ge=1)] | None, OnLine(panel=ROUTES)] = Field(
        default=None,
        description="Queries a day: lets a search in two stages be chosen, which embeds for as "
        "long as texts stay translated.",
    )
    horizon: Annotated[Duration, OnLine(panel=ROUTES)] = Field(
        default="30d", description="How long routes' costs are reckoned."
    )
    seed: Seed = 0
    queries: Annotated[Path | None, OnLine(panel=QUERIES)] = Field(
        default=None,
        description="JSONL query log; without one, held-out documents are the queries.",
    )
    labels: Annotated[Path | None, OnLine(panel=QUERIES)] = Field(
        default=None, description="Relevant documents by query: JSONL, or TREC's qrels."
    )

    @field_validator("horizon")
    @classmethod
    def _is_no_moment(cls, value: str) -> str:
        if parse_duration(value) < 3600:
            raise ValueError(f"{value!r} is less than an hour; write it as 30d")
        return value

    @property
    def horizon_days(self) -> float:
        """``horizon`` in days."""
        return parse_duration(self.horizon) / 86400

    @property
    def curve_order(self) -> str | None:
        """The order of re-embedding; None for the best of all."""
        return None if self.order == "best" else self.order

    @field_validator("anchors", mode="before")
    @classmethod
    def _a_number_is_no_file(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class DryRunOptions(MeasureOptions):
    """Options of :func:`dry_run`."""

    route: Annotated[RouteName, OnLine(panel=ROUTES)] = Field(
        default=RouteName.AUTO,
        description="The route that gates judge: re-embed everything, mixed (a share re-embedded), "
        "two-stage (best candidates ranked anew), or the cheapest that meets the gates.",
    )

    gates: Annotated[dict[GateName, Share], OnLine(panel="Gates", each=GATES)] = Field(
        default={}, description="Bounds for the figures, intervals included."
    )
    on_bad_vector: BadVectorPolicy = OnBadVector.FAIL


def bounds(options: MeasureOptions, population: int) -> tuple[int, Budget]:
    """Return how many anchors to draw, 0 if a file is given, and the budget.

    Raises
    ------
    InputError
        If the corpus is smaller than that.
    UsageError
        If the budget does not cover the anchors.
    """
    drawn = options.anchors
    if drawn is None:
        drawn = max(MIN_ANCHORS, min(DEFAULT_ANCHORS, population // 5))
    elif isinstance(drawn, Path):
        drawn = 0
    if drawn > population // 2:
        raise InputError(
            f"{drawn:,} anchors of {population:,} points leave too little to measure on",
            remedy="Re-embed a corpus this small whole, or ask for fewer with --anchors.",
        )
    if options.budget is None:
        budget = Budget(texts=min(drawn + DEFAULT_MEASURING, max(drawn, population // 2)))
    else:
        budget = Budget.parse(str(options.budget))
    if budget.texts is not None and budget.texts >= population:
        raise InputError(
            f"a budget of {budget} would re-embed all {population:,} points",
            remedy="Re-embed a corpus this small whole, or lower --budget.",
        )
    if budget.texts is not None and budget.texts <= drawn:
        raise UsageError(
            f"a budget of {budget} leaves nothing for measuring beside {drawn:,} anchors",
            remedy="Raise --budget, or lower --anchors.",
        )
    return drawn, budget
