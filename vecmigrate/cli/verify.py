"""``vecmigrate verify``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import (
    JsonFlag,
    QuietFlag,
    SeedOption,
    SourceArgument,
    StateOption,
    TranslatorOption,
)
from vecmigrate.cli.output import Output, give_to_readers
from vecmigrate.errors import ExitCode, UsageError, VerificationError
from vecmigrate.points.screening import OnBadVector

EXAMPLES = """
**Examples**

    vecmigrate verify faiss:old.faiss faiss:new.faiss --translator translator.safetensors
    vecmigrate verify qdrant:./storage/articles qdrant:./storage/articles-minilm \\
        --translator translator.safetensors --keep-anchors anchors.parquet --full
    vecmigrate verify faiss:old.faiss qdrant://localhost:6333/articles \\
        --translator translator.safetensors --queries new-queries.npy --min-index-recall 0.95
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("verify", epilog=EXAMPLES)(run)


def run(
    source: SourceArgument,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Collection that `vecmigrate migrate` wrote.")
    ],
    translator: TranslatorOption,
    full: Annotated[
        bool, typer.Option("--full", help="Compare every vector with its re-translation.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare this many, drawn at random; 1,000 if unsaid.")
    ] = None,
    keep_anchors: Annotated[
        Path | None, typer.Option(help="The anchor file that TARGET was written with, if it was.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help=".npy of queries under the new encoder, to measure TARGET's index with; without "
            "it, points of its own."
        ),
    ] = None,
    min_index_recall: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Fail where the index finds less of the true top 10; unsaid, warn."
        ),
    ] = None,
    on_bad_vector: Annotated[
        OnBadVector, typer.Option(help="As `migrate` had it: with skip they are left out.")
    ] = OnBadVector.FAIL,
    dead_letters: Annotated[
        Path | None, typer.Option(help="The file of points that `migrate` set aside, if it did.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Points held at a time.")] = 4096,
    seed: SeedOption = 0,
    state: StateOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Compare a new collection with the old one, translated, and measure its index."""
    from vecmigrate.cli.recording import recorded
    from vecmigrate.connector.addresses import followed_place
    from vecmigrate.connector.registry import open_source
    from vecmigrate.state import state_path
    from vecmigrate.state.file import open_records
    from vecmigrate.verification import CheckResult, VerifySettings, verify
    from vecmigrate.verification.options import SAMPLE
    from vecmigrate.verification.records import VerificationLog

    where = state_path(state)
    with (
        Output(as_json=json_, quiet=quiet) as out,
        recorded(where, "verify", source, target) as counts,
        ExitStack() as held,
    ):
        if full and sample is not None:
            raise UsageError("--full and --sample exclude one another", remedy="Give one of them.")
        # Held open: embedded storage is loaded anew where nobody else has it open.
        opened = [held.enter_context(open_source(uri)) for uri in (source, target)]
        total = sum(collection.describe().count for collection in opened)
        with out.progress("verifying", total) as advance:
            found = verify(
                source,
                target,
                translator,
                VerifySettings(
                    sample=None if full else sample or SAMPLE,
                    keep_anchors=keep_anchors,
                    queries=queries,
                    least_index_recall=min_index_recall,
                    batch_size=batch_size,
                    on_bad_vector=on_bad_vector,
                    dead_letters=dead_letters,
                    seed=seed,
                ),
                progress=advance,
            )
        with open_records(state) as records:
            VerificationLog(records).add(followed_place(target), found)
        counts.update(found.counts())
        width = max(len(check.name) for check in found.checks)
        for check in found.checks:
            out.say(f"{check.name:<{width}}  {check.outcome.value:<8} {check.summary}")
        out.result(found.model_dump(mode="json"))
        for check in found.failures:
            typer.echo(f"error: {target}: {check.name}: {check.summary}", err=True)
        if not found.passed:
            out.say("Next: do not let readers have it; mend what failed, or migrate again")
            raise typer.Exit(int(ExitCode.VERIFICATION)) from VerificationError(
                f"{target} failed: {', '.join(check.name for check in found.failures)}",
                remedy="Do not let readers have it; mend what failed, or migrate again.",
            )
        if any(check.outcome is CheckResult.WARNING for check in found.checks):
            out.say("Verified, with a warning above")
        out.say(
            f"What it costs in recall: vecmigrate evaluate --source '{source}' --target '{target}' "
            "--queries queries.jsonl --source-encoder OLD --target-encoder NEW"
        )
        out.say(give_to_readers(target, state))
