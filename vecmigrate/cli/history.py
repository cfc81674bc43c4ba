"""``vecmigrate history``."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from vecmigrate.cli.options import StateOption, state_again
from vecmigrate.cli.output import Output
from vecmigrate.cli.recording import spelling_of
from vecmigrate.errors import ExitCode, InputError
from vecmigrate.state import open_state, state_path
from vecmigrate.state.runs import KILLED, RUNNING, UNKNOWN, Run, RunLog
from vecmigrate.telemetry.redaction import redacted

EXAMPLES = """
**Examples**

    vecmigrate history
    vecmigrate history 7
    vecmigrate history --failed \\
        --target qdrant://localhost:6333/articles-minilm --limit 5
    vecmigrate history --failed --json

Recorded are run, migrate, sync, verify, cutover, rollback, drop-source and forget; no
rehearsals (--dry-run).
"""
_COLUMNS = ["run", "began (UTC)", "took", "command", "outcome", "points", "source → target"]

_REMEDIES = {
    ExitCode.OK.name: "nothing; it ended well",
    RUNNING: "let it finish, or stop it with SIGTERM",
    KILLED: "run the same command again; migrate continues from its last checkpoint",
    UNKNOWN: "ask on the machine that ran it",
}


def run(
    out: Output,
    number: Annotated[
        int | None, typer.Argument(metavar="RUN", help="Number of a run to show whole.", min=1)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many runs, the latest first.")] = 20,
    target: Annotated[
        str | None, typer.Option(help="Only runs with this target, or name that readers open.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only runs that were killed or failed.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Show what was run from this state file: when, how long, on what, and how it ended."""
    where = state_path(state)
    if not where.exists():
        raise InputError(
            f"there is no state file {where}: nothing was recorded",
            remedy="Go to the directory where you migrated, or name its file with --state.",
        )
    with closing(open_state(where)) as connection:
        log = RunLog(connection)
        if number is not None:
            _show_whole(_found(log, number, where), out)
            return
        runs = log.latest(
            limit,
            target=None if target is None else redacted(target),
            target_spelled=None if target is None else spelling_of(target),
            failed=failed,
        )
    if runs:
        out.table(_COLUMNS, [_row(run) for run in runs], texts=(1, 3, 4, 6), folded=(6,))
    out.result({"runs": [_told(run) for run in runs]})
    out.say(_next(runs, state))


def _found(log: RunLog, number: int, where: Path) -> Run:
    run = log.get(number)
    if run is None:
        raise InputError(
            f"there is no run {number} in {where}", remedy="`vecmigrate history` lists them."
        )
    return run


def _row(run: Run) -> list[str]:
    points = run.counts.get("written", run.counts.get("compared"))
    return [
        str(run.number),
        f"{run.begun_at:%Y-%m-%d %H:%M:%S}",
        _duration(run),
        run.command,
        run.outcome(),
        "" if points is None else f"{points:,}",
        run.target or "" if run.source == run.target else f"{run.source} → {run.target}",
    ]


def _show_whole(run: Run, out: Output) -> None:
    outcome = run.outcome()
    code = "" if run.exit_code is None else f" (exit code {run.exit_code})"
    out.facts(
        {
            "run": run.number,
            "command": run.command,
            "source": run.source,
            "target": run.target,
            "began": f"{run.begun_at:%Y-%m-%d %H:%M:%S} UTC",
            "ended": None if run.ended_at is None else f"{run.ended_at:%Y-%m-%d %H:%M:%S} UTC",
            "took": _duration(run) or None,
            "process": None if run.process is None else f"{run.process.pid} on {run.process.host}",
            "outcome": f"{outcome}{code}",
            "error": run.message,
            **{f"points {name}": f"{count:,}" for name, count in run.counts.items()},
        }
    )
    out.result(_told(run))
    out.say(f"Next: {run.remedy or _REMEDIES.get(outcome, 'look up its exit code in the docs')}")


def _next(runs: list[Run], state: Path | None) -> str:
    if not runs:
        return "No such runs. Next: vecmigrate migrate, the runs of which are recorded"
    return f"Next: vecmigrate history {runs[0].number}{state_again(state)} shows one whole"


def _told(run: Run) -> dict[str, Any]:
    return {**run.model_dump(mode="json"), "seconds": run.seconds, "outcome": run.outcome()}


def _duration(run: Run) -> str:
    if run.seconds is None:
        return ""
    if run.seconds < 60:
        return f"{run.seconds:.1f} s"
    return str(timedelta(seconds=round(run.seconds)))
