"""What a searcher is asked for, and what a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.encoders.options import BudgetText
from vecmigrate.points.batch import PointId
from vecmigrate.runtime.durations import Duration, parse_duration
from vecmigrate.runtime.options import OnLine, Options


class SearchOptions(Options):
    """Options of :func:`vecmigrate.open_searcher`."""

    candidates: Annotated[int, Field(ge=1)] = Field(
        default=100,
        description="Best points of the collection that are ranked anew; more for a larger one.",
    )
    max_texts: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Texts that a query may embed; default: all of its candidates'. 0: none, the "
        "collection's own ranking.",
    )
    deadline: Duration | None = Field(
        default=None,
        description="Answer with the collection's own ranking if the texts are not embedded by "
        "then, as 0.3s; they are kept for the next query.",
    )
    budget: Annotated[BudgetText, OnLine(metavar="N [texts|tokens]")] = Field(
        default=None,
        description="Most that queries may embed on a day (UTC), over all processes with the same "
        "state file, as `5000` or `1000000 tokens`.",
    )
    kept_vectors: Annotated[int, Field(ge=0)] = Field(
        default=100_000,
        description="Vectors that queries have bought and that are kept, in memory too, until they "
        "are written back; the oldest go first.",
    )

    write_back: Duration = Field(
        default="10s",
        description="How often what queries have bought is written to the collection, if its "
        "ledger is beside the state file; 0: never, `sync` does.",
    )

    @property
    def patience(self) -> float | None:
        """Seconds to wait for the encoder; None for as long as it takes."""
        return None if self.deadline is None else parse_duration(self.deadline)


class Ranking(StrEnum):
    """By what hits are ranked."""

    TRUE = "true"
    """All candidates by their true vectors."""

    PARTLY = "partly"
    """Some candidates by the vectors that the collection has."""

    TRANSLATED = "translated"
    """As the collection ranks them."""


class Unranked(StrEnum):
    """Why candidates were not ranked by their true vectors."""

    DEADLINE = "deadline"
    BUDGET = "budget"
    MAX_TEXTS = "max-texts"
    ENCODER = "encoder"
    NO_TEXT = "no-text"


class Hit(BaseModel):
    """A point that was found.

    Attributes
    ----------
    score
        By the collection's metric: a similarity, or a distance for Euclid and Manhattan.
    is_true
        True if the vector that was scored is the new encoder's own.
    """

    model_config = ConfigDict(frozen=True)

    id: PointId
    score: float
    payload: Mapping[str, Any]
    is_true: bool


class SearchResult(BaseModel):
    """Hits, best first, and what they cost.

    Attributes
    ----------
    why
        Why candidates were not ranked by their true vectors; empty if all were.
    candidates
        Points that the collection gave.
    texts, tokens
        That this query had embedded; what it shares with others counts once.
    encoder_seconds
        That it waited for the encoder, the query itself included.
    """

    model_config = ConfigDict(frozen=True)

    hits: tuple[Hit, ...]
    ranking: Ranking
    why: frozenset[Unranked] = frozenset()
    candidates: int
    texts: int = 0
    tokens: int = 0
    seconds: float
    encoder_seconds: float
