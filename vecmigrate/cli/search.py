"""``vecmigrate search``."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmigrate.cli.options import PriceOption, StateOption, TranslatedArgument
from vecmigrate.cli.output import Output
from vecmigrate.encoders.metered import money_text
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.search.options import SearchOptions, SearchResult, Unranked

EXAMPLES = """
**Examples**

    vecmigrate search faiss:new.faiss "solid state disk" \\
        --encoder all-MiniLM-L6-v2
    vecmigrate search qdrant://localhost:6333/articles "solid state disk" \\
        --encoder all-MiniLM-L6-v2 --candidates 50 --max-texts 20 \\
        --where '{"must": [{"key": "lang", "match": {"value": "en"}}]}'
"""

_SHOWN = 60
"""Characters of a hit's text."""

WHY = {
    Unranked.DEADLINE: "the encoder was late",
    Unranked.BUDGET: "the day's budget is spent",
    Unranked.MAX_TEXTS: "a query may embed no more texts",
    Unranked.ENCODER: "the encoder failed",
    Unranked.NO_TEXT: "some candidates have no text",
}


def run(
    out: Output,
    target: TranslatedArgument,
    words: Annotated[str, typer.Argument(metavar="WORDS", help="What to search for.")],
    encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits to show.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="Filter in the store's own language: Qdrant's JSON, LanceDB's SQL.",
        ),
    ] = None,
    price_per_million_tokens: PriceOption = None,
    *,
    options: SearchOptions,
    state: StateOption = None,
) -> None:
    """Search a collection in two stages, and show hits, origins and what the query cost."""
    from vecmigrate.search import open_searcher

    with open_searcher(
        target, encoder, options, state=state, price_per_million_tokens=price_per_million_tokens
    ) as searcher:
        found = searcher.search(words, k, where=where)
        field = searcher.text_field
        money = searcher.encoder.cost(found.texts, found.tokens).money
    rows = [
        [
            f"{rank}", f"{hit.score:.4f}", "true" if hit.is_true else "translated", str(hit.id),
            _shortened(hit.payload.get(field) if field else None),
        ]
        for rank, hit in enumerate(found.hits, 1)
    ]  # fmt: skip
    out.table(["", "score", "vector", "id", "text"], rows, texts=(2, 3, 4))
    out.say(_line(found, money))
    out.result(found.model_dump(mode="json"))


def _shortened(text: object) -> str:
    line = " ".join(str(text or "").split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _line(found: SearchResult, money: float | None) -> str:
    """Tell what the query cost, and what it could not have."""
    paid = "" if money is None else f", {money_text(money)} paid"
    line = (
        f"{found.candidates:,} candidates, {found.texts:,} texts embedded ({found.tokens:,} "
        f"tokens{paid}); {found.seconds:.2f} s, with {found.encoder_seconds:.2f} s of the encoder"
    )
    if found.why:
        reasons = " and ".join(sorted(WHY[why] for why in found.why))
        line += f"; ranked {found.ranking.value}: {reasons}"
    return line
