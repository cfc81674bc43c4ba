"""``vecmigrate verify``."""

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
from vecmigrate.cli.output import Output, give_to_readers
from vecmigrate.errors import ExitCode, VerificationError
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.verification.options import VerifyOptions
from vecmigrate.verification.records import Check

EXAMPLES = """
**Examples**

    vecmigrate verify faiss:old.faiss faiss:new.faiss \\
        --translator translator.safetensors
    vecmigrate verify qdrant:./storage/articles \\
        qdrant:./storage/articles-minilm \\
        --translator translator.safetensors \\
        --keep-anchors anchors.parquet --full
    vecmigrate verify faiss:old.faiss qdrant://localhost:6333/articles \\
        --translator translator.safetensors --queries new-queries.npy \\
        --min-index-recall 0.95
    vecmigrate verify faiss:old.faiss faiss:new.faiss \\
        --encoder all-MiniLM-L6-v2
"""


def run(
    out: Output,
    source: SourceArgument,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Collection that `vecmigrate migrate` wrote.")
    ],
    translator: OptionalTranslator = None,
    *,
    options: VerifyOptions,
    state: StateOption = None,
) -> None:
    """Compare a new collection with the old one, and measure its index."""
    from vecmigrate.cli.recording import recorded
    from vecmigrate.jobs.steps.verify import run_verification
    from vecmigrate.state.file import open_records, state_path
    from vecmigrate.verification import CheckResult

    with recorded(state, "verify", source, target) as counts, open_records(state) as records:
        found = run_verification(
            source, target, translator, options, records, out.progress, state_path(state)
        )
        counts.update(found.counts())
        width = max(len(check.name) for check in found.checks)
        for check in found.checks:
            out.say(f"{check.name:<{width}}  {check.outcome.value:<8} {check.summary}")
        out.result(found.model_dump(mode="json"))
        for check in found.failures:
            typer.echo(f"error: {target}: {check.name}: {check.summary}", err=True)
        if not found.passed:
            failed = [check.name for check in found.failures]
            mend = "do not let readers have it; fix what failed, or migrate again"
            if failed == ["pending"]:
                made_by = f"{made_by_again(translator, options.encoder)}{state_again(state)}"
                mend = _next(found.failures[0], f"'{source}' '{target}'{made_by}", options)
            out.say(f"Next: {mend}")
            raise typer.Exit(int(ExitCode.VERIFICATION)) from VerificationError(
                f"{target} failed: {', '.join(failed)}", remedy=f"Next: {mend}."
            )
        if any(check.outcome is CheckResult.WARNING for check in found.checks):
            out.say("Verified, with a warning above")
        out.say(
            f"What it costs in recall: vecmigrate evaluate --source '{source}' --target '{target}' "
            "--queries queries.jsonl --source-encoder OLD --target-encoder NEW"
        )
        out.say(give_to_readers(target, state))


def _next(pending: Check, again: str, options: VerifyOptions) -> str:
    """Say what to do if nothing is wrong but that points are pending, or were left out.

    Parameters
    ----------
    again
        The collections and what made them, as options.
    """
    skip = " --on-missing-text skip"
    if pending.figures.get("left_out"):
        return f"vecmigrate verify {again}{skip}"
    skips = options.on_missing_text is OnMissingText.SKIP
    return f"vecmigrate sync {again}{skip if skips else ''}, and verify again"
