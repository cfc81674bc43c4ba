"""Says what a run of a job would do, and what that takes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vecmigrate.dry_run import Budget
from vecmigrate.dry_run.settings import anchor_count, budget_of
from vecmigrate.jobs.dry_run_step import DryRunStep
from vecmigrate.jobs.moving import Moving
from vecmigrate.jobs.probing import Probe, probe
from vecmigrate.jobs.run import steps_of
from vecmigrate.jobs.spec import JobSpec
from vecmigrate.jobs.step import Look, Step
from vecmigrate.runtime.waiting import patience
from vecmigrate.state import open_state

_FLOAT = 4
_IN_MEMORY = ":memory:"


class Takes(BaseModel):
    """What a step takes, as far as it can be told before.

    Attributes
    ----------
    texts, tokens, money
        Given to the new encoder, at most; money in the currency of the job's price.
    seconds
        At least: what the target's store needs to write is not measured before it is asked to.
    vector_bytes
        Of the vectors that are written.
    """

    model_config = ConfigDict(frozen=True)

    texts: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None
    vector_bytes: int | None = None


class PlannedStep(BaseModel):
    """A step, how it stands, and what it takes."""

    model_config = ConfigDict(frozen=True)

    step: str
    look: Look
    takes: Takes = Takes()


class Plan(BaseModel):
    """What a run would do.

    Attributes
    ----------
    points
        Of the source; None where nothing was measured.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    target: str
    points: int | None
    steps: tuple[PlannedStep, ...]


def plan_job(
    spec: JobSpec, state: str | Path, *, cutover: bool = False, measure: bool = True
) -> Plan:
    """Look at each step of a job; nothing is written.

    Parameters
    ----------
    measure
        Read the source for a second and encode 64 texts, where a step is due that takes long;
        without it nothing is said of tokens and times.

    Raises
    ------
    MismatchError, TargetExistsError
        Where a run could not end well.
    VecmigrateError
        From the source, the target and the encoder.
    """
    with (
        patience(spec.wait, unless_said=True),
        closing(open_state(state if Path(state).exists() else _IN_MEMORY)) as records,
    ):
        moving = Moving(spec, Path(state), records)
        steps = [(step, step.look()) for step in steps_of(moving, cutover=cutover)]
        due = any(look.is_due for step, look in steps if step.name != "cutover")
        measured = probe(moving.source, spec.target.encoder) if measure and due else None
        return Plan(
            source=moving.source,
            target=moving.target,
            points=None if measured is None else measured.count,
            steps=tuple(
                PlannedStep(step=step.name, look=look, takes=_takes(step, look, spec, measured))
                for step, look in steps
            ),
        )


def _takes(step: Step, look: Look, spec: JobSpec, measured: Probe | None) -> Takes:
    if measured is None or not look.is_due:
        return Takes()
    both = measured.count / measured.translate_rate
    if isinstance(step, DryRunStep):
        settings = step.settings()
        drawn = anchor_count(settings, measured.count) if not _given(spec) else 0
        budget = budget_of(settings, drawn, measured.count)
        # Sampled, drawn from and translated: three readings.
        return _embedding(budget, spec, measured, 2 * measured.count / measured.read_rate + both)
    if step.name == "migrate":
        return Takes(seconds=both, vector_bytes=_FLOAT * measured.count * measured.target_dim)
    if step.name == "sync":
        asked = spec.sync.reembed_budget
        budget = Budget(texts=0) if asked is None else Budget.parse(str(asked))
        return _embedding(budget, spec, measured, measured.count / measured.read_rate)
    if step.name == "verify":
        return Takes(seconds=measured.count / measured.read_rate + both)
    return Takes()


def _given(spec: JobSpec) -> bool:
    return isinstance(spec.dry_run.anchors, Path)


def _embedding(budget: Budget, spec: JobSpec, measured: Probe, reading: float) -> Takes:
    each = max(measured.tokens_per_text, 1.0)
    texts = budget.texts if budget.tokens is None else round(budget.tokens / each)
    tokens = round((texts or 0) * measured.tokens_per_text)
    price, speed = spec.dry_run.price_per_million_tokens, measured.texts_per_second
    return Takes(
        texts=texts,
        tokens=tokens,
        money=None if price is None else tokens * price / 1e6,
        seconds=reading + ((texts or 0) / speed if speed else 0.0),
    )
