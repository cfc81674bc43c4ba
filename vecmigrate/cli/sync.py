"""``vecmigrate sync``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vecmigrate.cli.options import SourceArgument, StateOption, made_by_again, state_again
from vecmigrate.cli.output import Output
from vecmigrate.errors import TerminatedError
from vecmigrate.migration.reembed import LEFT_OUT, OnMissingText, refused_line
from vecmigrate.points.ids import name_some
from vecmigrate.state import state_path
from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.watch import WatchOptions, watch

if TYPE_CHECKING:
    from vecmigrate.jobs.steps.base import RunHooks

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
    vecmigrate sync faiss:old.faiss faiss:new.faiss \\
        --encoder all-MiniLM-L6-v2
    vecmigrate sync --back qdrant://localhost:6333/articles-minilm \\
        qdrant://localhost:6333/articles-v1 \\
        --keep-anchors anchors.parquet --encoder old-model
    vecmigrate sync qdrant://localhost:6333/articles \\
        qdrant://localhost:6333/articles-minilm \\
        --translator translator.safetensors --watch 30s \\
        --health /run/vecmigrate/articles.json

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
        typer.Option(
            "--translator",
            help="The migration's translator file, if it had one; not with --back.",
        ),
    ] = None,
    *,
    options: SyncOptions,
    watching: WatchOptions,
    state: StateOption = None,
) -> None:
    """Bring a translated collection in step with its source, and re-embed some of it."""
    from vecmigrate.cli.recording import run_hooks
    from vecmigrate.jobs.steps.sync import run_sync, run_sync_back

    def one_pass(hooks: RunHooks) -> SyncResult:
        if options.back:
            return run_sync_back(source, target, options, state_path(state), hooks)
        return run_sync(source, target, translator, options, state_path(state), hooks)

    if watching.every is not None:
        watching.check(options)
        _keep_in_step(one_pass, watching.every, watching.health, out, state, options)
    result = one_pass(run_hooks(out, state, rehearsal=options.dry_run))
    _show(result, out, options)
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
        made_by = made_by_again(translator, options.encoder)
        skips = options.on_missing_text is OnMissingText.SKIP
        skip = " --on-missing-text skip" if skips else ""
        out.say(
            f"Next: vecmigrate verify '{source}' '{target}'{made_by}{anchors}{skip}"
            f"{state_again(state)}"
        )
    else:
        out.say(f"Nothing was written. Next: vecmigrate status '{target}'")


def _keep_in_step(
    one_pass: Callable[[RunHooks], SyncResult],
    every: float,
    health: Path | None,
    out: Output,
    state: Path | None,
    options: SyncOptions,
) -> NoReturn:
    """Make passes until the process is asked to end; a person sees those that did something."""
    from vecmigrate.cli.recording import EndAsked, recorded
    from vecmigrate.jobs.steps.base import RunHooks

    asked, said = EndAsked(), set[str]()

    def announce(line: str) -> None:
        # What holds for each pass is no news after the first.
        if line not in said:
            said.add(line)
            out.say(line)

    def told(result: SyncResult) -> None:
        if result.wrote or sys.stdout.isatty():
            out.say(result.finished_at)
            _show(result, out, options)

    hooks = RunHooks(
        announce=announce,
        stage=out.progress,
        recorded=lambda *run: recorded(state, *run, idle=False),
        stoppable=asked.heeded,
    )
    with asked.heeded():
        try:
            watch(lambda: one_pass(hooks), every, asked.wait, health=health, told=told)
        except TerminatedError:
            if asked.interrupted:
                raise KeyboardInterrupt from None
            raise


def _show(result: SyncResult, out: Output, options: SyncOptions) -> None:
    for line in _told(result, embeds=options.encoder is not None):
        out.say(line)
    out.result(result.model_dump(mode="json"))


def _told(result: SyncResult, *, embeds: bool) -> Iterator[str]:
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
    if result.refused_ids:
        yield refused_line(result.refused_ids, result.skipped_ids)
    if result.skipped_ids:
        names = name_some(result.skipped_ids)
        what = LEFT_OUT if embeds else "bad vectors"
        yield f"{len(result.skipped_ids):,} {what} were left out, ids {names}"
    if result.native:
        yield f"{result.native:,} of those that arrived or changed got the new encoder's own vector"
    if result.reembedded:
        yield f"{result.reembedded:,} got the new encoder's own vector"
    if result.embedded is not None:
        yield result.embedded.line()
