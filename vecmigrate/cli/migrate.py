"""``vecmigrate migrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from vecmigrate.cli.options import (
    OptionalTranslator,
    SourceArgument,
    StateOption,
    made_by_again,
    state_again,
)
from vecmigrate.cli.output import Output
from vecmigrate.migration import MigrateOptions, MigrationResult
from vecmigrate.migration.reembed import LEFT_OUT, OnMissingText, refused_line
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import OnBadVector
from vecmigrate.state import state_path

LEAST_INDEXING_SECONDS = 1.0

EXAMPLES = """
**Examples**

    vecmigrate migrate faiss:old.faiss faiss:new.faiss \\
        --translator translator.safetensors
    vecmigrate migrate qdrant:./storage/articles \\
        qdrant:./storage/articles-minilm \\
        --translator translator.safetensors \\
        --keep-anchors anchors.parquet
    vecmigrate migrate faiss:old.faiss faiss:new.faiss \\
        --encoder all-MiniLM-L6-v2
    vecmigrate migrate faiss:old.faiss qdrant://localhost:6333/articles \\
        --translator translator.safetensors
    vecmigrate migrate faiss:old.faiss faiss:new.faiss \\
        --translator translator.safetensors --engine ray --workers 8
    vecmigrate migrate qdrant://localhost:6333/articles \\
        qdrant://localhost:6333/articles-minilm \\
        --translator translator.safetensors --shared-target

Killed, stopped or out of disk, the same command continues from the last durable batch.
"""


def _agreement(result: MigrationResult) -> str:
    if not result.in_step:
        return ""
    if result.as_of is None:
        return "; counts and ids agree with the source"
    return f", as of {result.as_of}; what changes from then on is for sync"


def _rates(result: MigrationResult) -> str:
    told = f"{result.vectors_per_second:,.0f} vectors/s"
    if result.indexing_seconds < LEAST_INDEXING_SECONDS:
        return told
    return f"{told}, then {result.indexing_seconds:,.0f} s until they were indexed"


def run(
    out: Output,
    source: SourceArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Collection to make; only with --shared-target may it be there."
        ),
    ],
    translator: OptionalTranslator = None,
    *,
    options: MigrateOptions,
    state: StateOption = None,
) -> None:
    """Write every point to a new collection, translated or re-embedded, and verify it."""
    from vecmigrate.cli.recording import run_hooks
    from vecmigrate.jobs.steps.migrate import run_migration

    result, notes = run_migration(
        source, target, translator, options, state_path(state), run_hooks(out, state)
    )
    for note in notes:
        out.say(f"note: {note}")
    if result.refused_ids:
        out.say(refused_line(result.refused_ids, result.skipped_ids))
    if result.skipped_ids:
        what = "bad vectors" if options.encoder is None else LEFT_OUT
        out.say(
            f"{len(result.skipped_ids):,} {what} were left out, ids {name_some(result.skipped_ids)}"
        )
    out.say(
        f"{result.written:,} points are in {target} ({result.target.index_type}, "
        f"{result.target.dimension} dimensions)"
        f"{_agreement(result)} ({_rates(result)})"
    )
    if result.embedded is not None:
        out.say(result.embedded.line())
    if result.native:
        out.say(f"{result.native:,} of them are applications' own, and were left as they are")
    if result.kept_anchors:
        out.say(f"{result.kept_anchors:,} of them hold the new encoder's own vectors")
    if result.quarantined_ids:
        names = name_some(result.quarantined_ids)
        out.say(
            f"{len(result.quarantined_ids):,} points were refused, ids {names}: "
            f"{result.dead_letters}"
        )
    collections = f"'{source}' '{target}'{made_by_again(translator, options.encoder)}"
    following = _next(result, collections, options)
    out.say(f"Next: vecmigrate {following}{state_again(state)}")
    out.result(result.model_dump(mode="json"))


def _next(result: MigrationResult, collections: str, options: MigrateOptions) -> str:
    """Return the command that follows."""
    following = f"{'verify' if result.in_step else 'sync'} {collections}"
    translates = options.encoder is None or options.reembed is not None
    if options.keep_anchors is not None and translates:
        following += f" --keep-anchors '{options.keep_anchors}'"
    if options.on_bad_vector is OnBadVector.SKIP:
        following += " --on-bad-vector skip"
    if options.on_missing_text is OnMissingText.SKIP:
        following += " --on-missing-text skip"
    if result.dead_letters is not None and result.in_step:
        following += f" --dead-letters '{result.dead_letters}'"
    return following
