"""``vecmigrate sync``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import (
    ENCODER_HELP,
    JsonFlag,
    QuietFlag,
    SourceArgument,
    StateOption,
    TranslatorOption,
)
from vecmigrate.cli.output import Output
from vecmigrate.points.screening import OnBadVector

EXAMPLES = """
**Examples**

    vecmigrate sync faiss:old.faiss faiss:new.faiss --translator translator.safetensors
    vecmigrate sync qdrant://localhost:6333/articles qdrant://localhost:6333/articles-minilm \\
        --translator translator.safetensors --changed-by updated_at --quiet
    vecmigrate sync faiss:old.faiss faiss:new.faiss --translator translator.safetensors \\
        --keep-anchors anchors.parquet --encoder all-MiniLM-L6-v2 --reembed-budget 500 \\
        --queries recent-queries.npy

Interrupted, the same command continues. With nothing to do it writes nothing.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("sync", epilog=EXAMPLES)(run)


def run(
    source: SourceArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Collection that `vecmigrate migrate` wrote, or a name that leads there.",
        ),
    ],
    translator: TranslatorOption,
    changed_by: Annotated[
        str,
        typer.Option(
            metavar="hash|ids|FIELD",
            help="How a change is told: by contents; not at all, arrivals and disappearances "
            "alone; or by a payload field with the time of change.",
        ),
    ] = "hash",
    keep_anchors: Annotated[
        Path | None, typer.Option(help="The anchor file that TARGET was migrated with, if it was.")
    ] = None,
    reembed_budget: Annotated[
        str | None,
        typer.Option(
            metavar="N|'N tokens'",
            help="Re-embed the most valuable translated points, up to so many texts or tokens.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help=f"New encoder, for --reembed-budget: {ENCODER_HELP}")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Recent queries: what they find is worth more to re-embed. .npy under the new "
            "encoder, or JSON lines with texts."
        ),
    ] = None,
    on_bad_vector: Annotated[
        OnBadVector, typer.Option(help="NaN, infinite or zero vectors: refuse, or leave out.")
    ] = OnBadVector.FAIL,
    max_vanished: Annotated[
        float,
        typer.Option(min=0, max=1, help="Refuse where a larger share of the points vanished."),
    ] = 0.5,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="First run: points of SOURCE that differ at TARGET are older translations, not "
            "somebody's own; write them anew.",
        ),
    ] = False,
    source_moved: Annotated[
        bool,
        typer.Option("--source-moved", help="SOURCE is what TARGET was written from, renamed."),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Points held at a time.")] = 4096,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    state: StateOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Bring a translated collection in step with its source, and re-embed some of it."""
    from vecmigrate.cli.recording import recorded, termination_asked
    from vecmigrate.points.ids import name_some
    from vecmigrate.state import state_path
    from vecmigrate.sync.options import SyncSettings
    from vecmigrate.sync.run import sync

    where = state_path(state)
    with (
        Output(as_json=json_, quiet=quiet) as out,
        recorded(where, "sync", source, target) as counts,
        termination_asked() as stop,
        out.progress("syncing", None) as advance,
    ):
        result = sync(
            source,
            target,
            translator,
            where,
            SyncSettings(
                changed_by=changed_by,
                keep_anchors=keep_anchors,
                on_bad_vector=on_bad_vector,
                batch_size=batch_size,
                max_vanished=max_vanished,
                adopt=adopt,
                source_moved=source_moved,
                reembed=reembed_budget,
                encoder=encoder,
                queries=queries,
                dry_run=dry_run,
                stop=stop,
                announce=out.say,
                progress=advance,
            ),
        )
        counts.update(result.counts())
        would = "would be " if dry_run else ""
        out.say(
            f"{result.arrived:,} arrived, {result.changed:,} changed, {result.vanished:,} vanished"
        )
        if result.compared:
            out.say(f"{result.compared:,} points at the target {would}compared: no run knows them")
        if result.adopted:
            out.say(f"{result.adopted:,} were at the target already, as they should be")
        if result.left_alone:
            out.say(
                f"{result.left_alone:,} at the target are somebody's own and were left alone "
                "(--adopt takes those without a mark for older translations)"
            )
        if result.passed_over:
            out.say(
                f"{result.passed_over:,} were deleted or written anew meanwhile: the next sync "
                "looks at them"
            )
        if result.skipped_ids:
            out.say(
                f"{len(result.skipped_ids):,} bad vectors were left out, ids "
                f"{name_some(result.skipped_ids)}"
            )
        if result.reembedded:
            out.say(f"{result.reembedded:,} got the new encoder's own vector")
        out.result(result.model_dump(mode="json"))
        if dry_run:
            out.say("Nothing was changed. Next: the same command without --dry-run")
        elif result.wrote:
            anchors = f" --keep-anchors {keep_anchors}" if keep_anchors else ""
            out.say(
                f"{target} has {result.count:,} points: {result.translated:,} translated, "
                f"{result.encoded:,} the new encoder's own"
            )
            out.say(
                f"Next: vecmigrate verify '{source}' '{target}' --translator {translator}{anchors}"
            )
        else:
            out.say(f"Nothing was written. Next: vecmigrate status '{target}'")
