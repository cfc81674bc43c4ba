"""What a dry run is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vecmigrate.anchors import Strategy
from vecmigrate.encoders.metered import Budget
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.screening import OnBadVector
from vecmigrate.translators.fit import Method

CUTOFFS = (1, 5, 10, 50, 100)

DEFAULT_ANCHORS = 4000
DEFAULT_MEASURING = 4500
"""Texts re-embedded besides the anchors."""

MIN_ANCHORS = 50


class Stage(Protocol):
    """Shows progress: a context that yields a function to call with units just done."""

    def __call__(
        self, what: str, total: int | None, *, unit: str = ...
    ) -> AbstractContextManager[Callable[[int], None]]: ...


@contextmanager
def silent(what: str, total: int | None, *, unit: str = "vec") -> Iterator[Callable[[int], None]]:
    """Show no progress."""
    yield lambda count: None


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of :func:`dry_run`.

    Attributes
    ----------
    anchors
        How many to draw, a file of them, or None for 4,000, at most a fifth of the corpus.
    budget
        Bounds everything that is re-embedded, anchors that are drawn included; None for the
        anchors and 4,500 texts, at most half of the corpus.
    thresholds
        By gate, as ``{"min-recall@10": 0.9}``; see :func:`vecmigrate.dry_run.verdict.decide`.
    target_recall
        recall@10 that the cost curve is asked for.
    order
        In which order to re-embed: ``uncertainty``, ``traffic``, ``random``, or None for the best.
    price
        Of a million tokens, in any currency.
    read_texts
        False translates by vectors alone, even where texts are at hand.
    seed
        Of every draw.
    """

    anchors: int | Path | None = None
    strategy: Strategy = Strategy.KMEANS
    method: Method = Method.AUTO
    budget: Budget | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    target_recall: float | None = None
    order: str | None = None
    price: float | None = None
    read_texts: bool = True
    seed: int = 0
    on_bad_vector: OnBadVector = OnBadVector.FAIL


def anchor_count(settings: Settings, population: int) -> int:
    """How many anchors to draw.

    Raises
    ------
    InputError
        Where the corpus is smaller than that.
    """
    wanted = settings.anchors
    if not isinstance(wanted, int):
        wanted = max(MIN_ANCHORS, min(DEFAULT_ANCHORS, population // 5))
    if wanted > population // 2:
        raise InputError(
            f"{wanted:,} anchors of {population:,} points leave too little to measure on",
            remedy="Re-embed a corpus this small whole, or ask for fewer with --anchors.",
        )
    return wanted


def budget_of(settings: Settings, drawn: int, population: int) -> Budget:
    """The budget given or the default.

    Parameters
    ----------
    drawn
        Anchors that this run draws.

    Raises
    ------
    InputError
        Where it would re-embed as much as the corpus holds.
    UsageError
        Where it does not cover the anchors.
    """
    budget = settings.budget or Budget(
        texts=min(drawn + DEFAULT_MEASURING, max(drawn, population // 2))
    )
    if budget.texts is not None:
        if budget.texts >= population:
            raise InputError(
                f"a budget of {budget} would re-embed all {population:,} points",
                remedy="Re-embed a corpus this small whole, or lower --budget.",
            )
        if budget.texts <= drawn:
            raise UsageError(
                f"a budget of {budget} leaves nothing for measuring beside {drawn:,} anchors",
                remedy="Raise --budget, or lower --anchors.",
            )
    return budget
