"""``vecmigrate run``."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import JobArgument, StateOption, state_again
from vecmigrate.cli.output import Output, give_to_readers

EXAMPLES = """
**Examples**

    vecmigrate run
    # for cron
    vecmigrate run jobs/articles.toml --quiet
    vecmigrate run jobs/articles.toml --cutover

Steps: dry-run and gates, migrate (later: sync), verify, cutover. One whose result still holds is
passed over; killed, the same command continues. Exit codes are those of the steps: 10 if a gate
is not met, 6 if the verification fails.
"""


def run(
    out: Output,
    job: JobArgument = Path("vecmigrate.toml"),
    cutover: Annotated[
        bool, typer.Option("--cutover", help="Lead readers to the target once it is verified.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Do what is left to do of a job: measure, judge, migrate, keep in step, verify."""
    from vecmigrate.cli.recording import recorded, run_hooks
    from vecmigrate.errors import UsageError
    from vecmigrate.jobs import load_job
    from vecmigrate.jobs.run import run_job
    from vecmigrate.state import state_path

    spec = load_job(job)
    if cutover and spec.cutover is None:
        raise UsageError(
            f"{job} does not say what readers open",
            remedy='Add [cutover] with name = "…", or leave --cutover out.',
        )
    where = state_path(state if state is None else state.absolute())
    with chdir(job.parent), recorded(where, "run", spec.source.uri, spec.target.uri):
        result = run_job(spec, where, cutover=cutover, around=run_hooks(out, where))
        out.result(result.model_dump(mode="json"))
        last = result.steps[-1]
        if result.exit_code:
            typer.echo(f"error: {job}: {last.step}: {last.look.reason}", err=True)
            out.say(f"Next: {_MEND[last.step]}")
            raise typer.Exit(result.exit_code)
    again = f"vecmigrate run '{job}'"
    if spec.cutover is not None and last.look.is_left:
        out.say(f"Next: {again} --cutover{state_again(state)}")
    elif spec.cutover is not None:
        out.say(f"Next: {again} by a schedule keeps it in step (examples/schedules)")
    else:
        out.say(f"{give_to_readers(spec.target.uri, state)}; or {again} later")


_MEND = {
    "dry-run": "read the page; more anchors, another encoder, or other gates in the job",
    "verify": "do not let readers have the target; fix what failed, and run again",
}
