"""``vecmigrate migrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import (
    JsonFlag,
    QuietFlag,
    SourceArgument,
    StateOption,
    TranslatorOption,
    state_again,
)
from vecmigrate.cli.output import Output
from vecmigrate.cli.recording import recorded, termination_asked
from vecmigrate.connector.registry import open_source
from vecmigrate.migration.dead_letters import MAX_DEAD_LETTERS, OnBadPoint
from vecmigrate.migration.engines import EngineName, open_engine
from vecmigrate.migration.run import BATCH_SIZE, CHECKPOINT_SECONDS, MigrationResult, migrate
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import OnBadVector
from vecmigrate.state import state_path

LEAST_INDEXING_SECONDS = 1.0

EXAMPLES = """
**Examples**

    vecmigrate migrate faiss:old.faiss faiss:new.faiss --translator translator.safetensors
    vecmigrate migrate qdrant:./storage/articles qdrant:./storage/articles-minilm \\
        --translator translator.safetensors --keep-anchors anchors.parquet
    vecmigrate migrate faiss:old.faiss qdrant://localhost:6333/articles \\
        --translator translator.safetensors
    vecmigrate migrate faiss:old.faiss faiss:new.faiss --translator translator.safetensors \\
        --engine ray --workers 8

Killed, stopped or out of disk, the same command continues from the last durable batch.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("migrate", epilog=EXAMPLES)(run)


def _rates(result: MigrationResult) -> str:
    told = f"{result.vectors_per_second:,.0f} vectors/s"
    if result.indexing_seconds < LEAST_INDEXING_SECONDS:
        return told
    return f"{told}, then {result.indexing_seconds:,.0f} s until they were indexed"


def run(
    source: SourceArgument,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Collection to make; nothing may be there yet.")
    ],
    translator: TranslatorOption,
    keep_anchors: Annotated[
        Path | None,
        typer.Option(help="Anchor file: its true vectors are kept, and each point's origin told."),
    ] = None,
    source_encoder: Annotated[
        str | None,
        typer.Option(help="Name of the encoder that made SOURCE; refused if not the translator's."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Vectors held at a time.")] = BATCH_SIZE,
    on_bad_vector: Annotated[
        OnBadVector, typer.Option(help="NaN, infinite or zero vectors: refuse, or leave out.")
    ] = OnBadVector.FAIL,
    on_bad_point: Annotated[
        OnBadPoint,
        typer.Option(help="A point that TARGET's store refuses: stop and name it, or set aside."),
    ] = OnBadPoint.FAIL,
    dead_letters: Annotated[
        Path | None,
        typer.Option(help="Where refused points go, JSON lines; unsaid, beside the state file."),
    ] = None,
    max_dead_letters: Annotated[
        int, typer.Option(min=1, help="Stop where the store refuses more points than this.")
    ] = MAX_DEAD_LETTERS,
    state: StateOption = None,
    checkpoint_seconds: Annotated[
        float,
        typer.Option(min=0, help="How often to make durable what was written, at most."),
    ] = CHECKPOINT_SECONDS,
    max_rate: Annotated[
        float | None,
        typer.Option(min=1, help="Points a second to write at most; for a server with readers."),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Where translating is done: here, or by Ray workers.")
    ] = EngineName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that translate, or Ray tasks; unsaid, one a processor."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, or a device of torch as cuda:1; unsaid, a GPU if there is one."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to use; unsaid, RAY_ADDRESS, or one started here."),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(help="Folder that all Ray workers see; unsaid, beside the state file."),
    ] = None,
    id_with_key: Annotated[
        bool,
        typer.Option(
            "--id-with-key",
            help="Write ids as KEY/ID if TARGET's store does not know SOURCE's shard keys.",
        ),
    ] = False,
    keep_limits: Annotated[
        bool,
        typer.Option(
            "--keep-limits",
            help="Refuse a TARGET for which SOURCE's size limits are too small; default: raise "
            "them with the dimension.",
        ),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away an earlier, unfinished run's target.")
    ] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Stream every vector through the translator into a new collection, and verify it."""
    where = state_path(state)
    with (
        Output(as_json=json_, quiet=quiet) as out,
        recorded(where, "migrate", source, target) as counts,
        open_source(source) as opened,
        termination_asked() as stop,
    ):
        description = opened.describe()
        with out.progress(
            "migrating", description.count, bytes_each=4 * description.dimension
        ) as advance:
            result = migrate(
                opened,
                target,
                translator,
                keep_anchors=keep_anchors,
                source_encoder=source_encoder,
                batch_size=batch_size,
                on_bad_vector=on_bad_vector,
                on_bad_point=on_bad_point,
                dead_letters=dead_letters,
                max_dead_letters=max_dead_letters,
                id_with_key=id_with_key,
                keep_limits=keep_limits,
                restart=restart,
                state=where,
                checkpoint_seconds=checkpoint_seconds,
                max_rate=max_rate,
                engine=open_engine(
                    engine, workers=workers, device=device, address=ray_address, parts=parts
                ),
                stop=stop,
                announce=out.say,
                progress=advance,
            )
        counts.update(result.counts())
        for note in dict.fromkeys((*description.notes, *result.notes, *result.target.notes)):
            out.say(f"note: {note}")
        if result.skipped_ids:
            names = name_some(result.skipped_ids)
            out.say(f"{len(result.skipped_ids):,} bad vectors were left out, ids {names}")
        out.say(
            f"{result.written:,} points are in {target} ({result.target.index_type}, "
            f"{result.target.dimension} dimensions)"
            f"{'; counts and ids agree with the source' if result.in_step else ''} "
            f"({_rates(result)})"
        )
        if result.kept_anchors:
            out.say(f"{result.kept_anchors:,} of them hold the new encoder's own vectors")
        if result.quarantined_ids:
            names = name_some(result.quarantined_ids)
            out.say(
                f"{len(result.quarantined_ids):,} points were refused, ids {names}: "
                f"{result.dead_letters}"
            )
        command = "verify" if result.in_step else "sync"
        following = f"vecmigrate {command} '{source}' '{target}' --translator '{translator}'"
        if keep_anchors is not None:
            following += f" --keep-anchors '{keep_anchors}'"
        if on_bad_vector is OnBadVector.SKIP:
            following += " --on-bad-vector skip"
        if result.dead_letters is not None and result.in_step:
            following += f" --dead-letters '{result.dead_letters}'"
        out.say(f"Next: {following}{state_again(state)}")
        out.result(result.model_dump(mode="json"))
