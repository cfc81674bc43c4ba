"""``vecmigrate prewarm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import PriceOption, StateOption, TranslatedArgument
from vecmigrate.cli.output import Output
from vecmigrate.cli.search import WHY
from vecmigrate.encoders.metered import money_text
from vecmigrate.encoders.options import ENCODER_HELP
from vecmigrate.search.options import SearchOptions

EXAMPLES = """
**Examples**

    vecmigrate prewarm faiss:new.faiss --queries log.jsonl \\
        --encoder all-MiniLM-L6-v2
    vecmigrate prewarm qdrant://localhost:6333/articles-minilm \\
        --queries log.jsonl --encoder all-MiniLM-L6-v2 \\
        --candidates 50 --budget "200000 tokens"
"""


def run(
    out: Output,
    target: TranslatedArgument,
    encoder: Annotated[str, typer.Option(help=f"New encoder: {ENCODER_HELP}")],
    queries: Annotated[
        Path,
        typer.Option(help="Recent queries: JSON lines with texts, or .npy under the new encoder."),
    ],
    price_per_million_tokens: PriceOption = None,
    *,
    options: SearchOptions,
    state: StateOption = None,
) -> None:
    """Run logged queries through a search in two stages, so that readers' queries cost less."""
    from vecmigrate.cli.recording import run_hooks
    from vecmigrate.encoders.queries import query_vectors
    from vecmigrate.search import open_searcher
    from vecmigrate.search.prewarm import prewarm

    hooks = run_hooks(out, state)
    with open_searcher(
        target, encoder, options, state=state, price_per_million_tokens=price_per_million_tokens
    ) as searcher:
        vectors = query_vectors(queries, searcher.encoder, target)
        with hooks.stoppable() as stop, out.progress("asking", len(vectors), unit="query") as done:
            found = prewarm(searcher, vectors, stop=stop, progress=done)
    money = "" if found.money is None else f", {money_text(found.money)} paid"
    out.say(
        f"{found.queries:,} queries, {found.texts:,} texts embedded ({found.tokens:,} tokens"
        f"{money}); {found.ranked:,} queries are ranked by true vectors alone"
    )
    for why, count in found.why.items():
        out.say(f"{count:,} queries: {WHY[why]}")
    out.say(f"Next: vecmigrate search '{target}' WORDS --encoder '{encoder}'")
    out.result(found.model_dump(mode="json"))
