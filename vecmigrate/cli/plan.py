"""``vecmigrate plan``."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Annotated

import typer

from vecmigrate.cli.options import JobArgument, StateOption, state_again
from vecmigrate.cli.output import Output

EXAMPLES = """
**Examples**

    vecmigrate plan
    vecmigrate plan jobs/articles.toml --cutover
    vecmigrate plan jobs/articles.toml --no-measure --json

To tell the time, the source is read for a second and 64 texts are given to the new encoder;
--no-measure does neither.
"""


def run(
    out: Output,
    job: JobArgument = Path("vecmigrate.toml"),
    cutover: Annotated[bool, typer.Option("--cutover", help="As `run` would be given it.")] = False,
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Measure a little, to tell tokens and times."),
    ] = True,
    state: StateOption = None,
) -> None:
    """Show what a run of a job would do, and what that takes; nothing is migrated."""
    from vecmigrate.jobs import load_job
    from vecmigrate.jobs.plan import plan_job
    from vecmigrate.report.formatting import duration, money
    from vecmigrate.state import state_path

    spec = load_job(job)
    where = state_path(state if state is None else state.absolute())
    with chdir(job.parent):
        plan = plan_job(spec, where, cutover=cutover, measure=measure)
    out.result(plan.model_dump(mode="json"))
    points = "" if plan.points is None else f", {plan.points:,} points"
    out.say(f"{plan.source} to {plan.target}, {spec.target.encoder}{points}")
    out.say(f"route: {plan.route.route} ({plan.route.why})")
    rows = []
    for step in plan.steps:
        takes = step.takes
        rows.append(
            [
                step.step,
                step.look.standing.value,
                "" if takes.texts is None else f"{takes.texts:,}",
                "" if takes.tokens is None else f"{takes.tokens:,}",
                "" if takes.money is None else money(takes.money),
                "" if takes.seconds is None else f"≥ {duration(takes.seconds / 3600)}",
                "" if takes.vector_bytes is None else f"{takes.vector_bytes / 1e6:,.0f} MB",
                step.look.reason,
            ]
        )
    columns = ["step", "", "texts ≤", "tokens", "cost", "time", "vectors", "why"]
    out.table(columns, rows, texts=(0, 1, 7), folded=(7,))
    if measure and any(step.takes.seconds for step in plan.steps):
        out.say("Times are of reading, translating and encoding; the target's store adds its own")
    if any(step.look.is_due for step in plan.steps):
        flag = " --cutover" if cutover else ""
        out.say(f"Next: vecmigrate run '{job}'{flag}{state_again(state)}")
    else:
        out.say("Nothing is left to do. Next: the same again when the source has changed")
