"""Does what is left to do of a job, step by step."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pydantic import BaseModel

from vecmigrate.jobs.spec import JobSpec
from vecmigrate.jobs.steps.back import BackStep
from vecmigrate.jobs.steps.base import JobContext, RunHooks, Step, StepState, StepStatus
from vecmigrate.jobs.steps.cutover import CutoverStep
from vecmigrate.jobs.steps.dry_run import DryRunStep
from vecmigrate.jobs.steps.migrate import MigrateStep
from vecmigrate.jobs.steps.prewarm import PrewarmStep
from vecmigrate.jobs.steps.sync import SyncStep
from vecmigrate.jobs.steps.verify import VerifyStep
from vecmigrate.report.schema import RouteName
from vecmigrate.runtime.waiting import patience
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock


class StepOutcome(BaseModel, frozen=True):
    """What a run made of a step.

    Attributes
    ----------
    done_now
        False if an earlier result holds, or nothing was to be done.
    """

    step: str
    done_now: bool
    look: StepState


class JobResult(BaseModel, frozen=True):
    """What a run made of a job.

    Attributes
    ----------
    steps
        In their order, as far as it came.
    exit_code
        0, or that of the step that stopped it.
    """

    source: str
    target: str
    steps: tuple[StepOutcome, ...]
    exit_code: int


def steps_of(moving: JobContext, *, cutover: bool) -> list[Step]:
    """Return a job's steps in their order."""
    steps: list[Step] = [kind(moving) for kind in (DryRunStep, MigrateStep, SyncStep)]
    if moving.spec.migrate.route in (RouteName.AUTO, RouteName.TWO_STAGE):
        steps.append(PrewarmStep(moving))
    steps.append(VerifyStep(moving))
    if moving.spec.cutover is not None:
        steps.append(CutoverStep(moving, moving.spec.cutover, asked=cutover))
        if moving.spec.cutover.keep_back is not None:
            steps.append(BackStep(moving, moving.spec.cutover.keep_back))
    return steps


def run_job(
    spec: JobSpec, state: str | Path, *, cutover: bool = False, around: RunHooks | None = None
) -> JobResult:
    """Measure, judge, migrate, keep in step, verify and, if asked for, cut over.

    Each step is passed over if its result still holds. A run that was killed is continued by the
    same call. Paths are seen from the working directory.

    Parameters
    ----------
    state
        The state file.
    cutover
        Lead readers over to the target, once it is verified.
    around
        See :class:`RunHooks`.

    Raises
    ------
    LockedError
        If another run has the job.
    MismatchError, TargetExistsError
        If the target was made otherwise than the job says, or by somebody else.
    VecmigrateError
        From the steps.
    """
    around, state = around or RunHooks(), Path(state)
    with patience(spec.wait, unless_said=True), closing(open_state(state)) as records:
        moving = JobContext(spec, state, records)
        what = f"the job {moving.source} to {moving.target}"
        with job_lock(state.parent / "locks", f"{moving.key}-run", what):
            return _run(moving, steps_of(moving, cutover=cutover), around)


def _run(moving: JobContext, steps: list[Step], around: RunHooks) -> JobResult:
    outcomes: list[StepOutcome] = []
    for step in steps:
        look = step.look()
        if done_now := look.is_due:
            around.announce(f"{step.name}: {look.reason}")
            look = step.do(around)
        around.announce(f"{step.name}: {look.standing.value}, {look.reason}")
        outcomes.append(StepOutcome(step=step.name, done_now=done_now, look=look))
        if look.standing is StepStatus.FAILED:
            break
    return JobResult(
        source=moving.source,
        target=moving.target,
        steps=tuple(outcomes),
        exit_code=outcomes[-1].look.exit_code,
    )
