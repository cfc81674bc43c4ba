"""Runs logged queries through a searcher before readers come, so that theirs cost less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from pydantic import BaseModel, ConfigDict

from vecmigrate.errors import TerminatedError
from vecmigrate.points.batch import Vectors
from vecmigrate.runtime.threads import map_in_parallel
from vecmigrate.search.options import Ranking, SearchResult, Unranked
from vecmigrate.search.searcher import Searcher

AT_ONCE = 4
"""Queries that are asked at a time, so that they share what they have embedded."""


class Prewarmed(BaseModel):
    """What prewarming did.

    Attributes
    ----------
    ranked
        Queries all of whose candidates are ranked by their true vectors now.
    why
        How many queries were not, by the reason; one may have several.
    texts, tokens, money
        Embedded; money is None without a price.
    """

    model_config = ConfigDict(frozen=True)

    queries: int
    ranked: int
    why: dict[Unranked, int]
    texts: int
    tokens: int
    money: float | None


def prewarm(
    searcher: Searcher,
    queries: Vectors,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda count: None,
) -> Prewarmed:
    """Search for each of ``(n, d)`` queries, whose candidates are then native, or kept.

    Queries that a day's budget does not reach are counted, and fail nothing.

    Parameters
    ----------
    stop
        Asked after each query; True ends the run, and what was bought stays.
    progress
        Called with the number of queries just done.

    Raises
    ------
    TerminatedError
        If ``stop`` said so.
    InputError, UnreachableError
        From the collection.
    """
    ranked, texts, tokens = 0, 0, 0
    why: Counter[Unranked] = Counter()
    results = map_in_parallel(partial(_searched, searcher), list(queries), AT_ONCE, name="prewarm")
    for result in results:
        ranked += result.ranking is Ranking.TRUE
        texts, tokens = texts + result.texts, tokens + result.tokens
        why.update(result.why)
        progress(1)
        if stop():
            raise TerminatedError(
                "stopped before all queries were asked; what was embedded is kept",
                remedy="Run the same command to continue.",
            )
    return Prewarmed(
        queries=len(queries),
        ranked=ranked,
        why=dict(why),
        texts=texts,
        tokens=tokens,
        money=searcher.encoder.cost(texts, tokens).money,
    )


def _searched(searcher: Searcher, query: Vectors) -> SearchResult:
    return searcher.search(query)
