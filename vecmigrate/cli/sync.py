"""``vecmigrate sync``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import SourceArgument, StateOption
from vecmigrate.cli.output import Output
from vecmigrate.errors import UsageError
from vecmigrate.points.ids import name_some
from vecmigrate.state import state_path
from vecmigrate.sync.options import SyncOptions, SyncResult

EXAMPLES = """
**Examples**

    vecmigrate sync faiss:old.faiss faiss:new.faiss \\
        --translator translator.safetensors
    vecmigrate sync qdrant://localhost:6333/articles \\
        qdrant://localhost:6333/articles-minilm \\
        --translator translator.safetensors --changed-by updated_at \\
        --quiet
    vecmigrate sync faiss:old.faiss faiss:new.faiss \\
        --translator translator.safetensors \\
        --keep-anchors anchors.parquet --encoder all-MiniLM-L6-v2 \\
        --reembed-budget 500 --queries recent-queries.npy
    vecmigrate sync --back qdrant://localhost:6333/articles-minilm \\
        qdrant://localhost:6333/articles-v1 \\
        --keep-anchors anchors.parquet --encoder old-model

Interrupted, the same command continues. With nothing to do it writes nothing.
"""


def run(
    out: Output,
    source: SourceArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Collection that `vecmigrate migrate` wrote, or a name that leads there.",
        ),
    ],
    translator: Annotated[
        Path | None,
        typer.Option("--translator", help="The migration's translator file; not with --back."),
    ] = None,
    *,
    options: SyncOptions,
    state: StateOption = None,
) -> None:
    """Bring a translated collection in step with its source, and re-embed some of it."""
    from vecmigrate.cli.recording import run_hooks
    from vecmigrate.jobs.steps.sync import run_sync, run_sync_back

    hooks = run_hooks(out, state, rehearsal=options.dry_run)
    if options.back:
        result = run_sync_back(source, target, options, state_path(state), hooks)
    elif translator is None:
        raise UsageError("--translator is missing", remedy="Name the migration's translator file.")
    else:
        result = run_sync(source, target, translator, options, state_path(state), hooks)
    for line in _told(result):
        out.say(line)
    out.result(result.model_dump(mode="json"))
    if options.dry_run:
        out.say("Nothing was changed. Next: the same command without --dry-run")
    elif options.back:
        out.say(
            f"{target} has what changed at {source}; a vecmigrate rollback loses nothing of it. "
            "Next: the same command on a schedule, as long as you may go back"
        )
    elif result.wrote:
        out.say(
            f"{target} has {result.count:,} points: {result.translated:,} translated, "
            f"{result.encoded:,} the new encoder's own"
        )
        anchors = f" --keep-anchors {options.keep_anchors}" if options.keep_anchors else ""
        out.say(f"Next: vecmigrate verify '{source}' '{target}' --translator {translator}{anchors}")
    else:
        out.say(f"Nothing was written. Next: vecmigrate status '{target}'")


def _told(result: SyncResult) -> Iterator[str]:
    """Yield what was done, a line for each kind of points."""
    yield f"{result.arrived:,} arrived, {result.changed:,} changed, {result.vanished:,} vanished"
    yield result.found_by.line()
    if result.compared:
        would = "would be " if result.dry_run else ""
        yield f"{result.compared:,} points at the target {would}compared: no run knows them"
    if result.adopted:
        yield f"{result.adopted:,} were at the target already, as they should be"
    if result.left_alone:
        yield f"{result.left_alone:,} at the target were written by others and were left alone"
    if result.passed_over:
        yield (
            f"{result.passed_over:,} were deleted or written anew meanwhile: the next sync looks "
            "at them"
        )
    if result.skipped_ids:
        names = name_some(result.skipped_ids)
        yield f"{len(result.skipped_ids):,} bad vectors were left out, ids {names}"
    if result.reembedded:
        yield f"{result.reembedded:,} got the new encoder's own vector"
