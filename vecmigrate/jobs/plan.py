"""Says what a run of a job would do, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source
from vecmigrate.dry_run.options import bounds
from vecmigrate.encoders import Budget, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.metered import Cost
from vecmigrate.jobs.routes import PlannedRoute, planned_route, report_in
from vecmigrate.jobs.run import steps_of
from vecmigrate.jobs.spec import JobSpec
from vecmigrate.jobs.steps.base import JobContext, Step, StepState
from vecmigrate.jobs.steps.dry_run import DryRunStep
from vecmigrate.report.schema import RouteName
from vecmigrate.runtime.waiting import patience
from vecmigrate.state import open_state

_FLOAT = 4
_IN_MEMORY = ":memory:"


class Takes(BaseModel, frozen=True):
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

    texts: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None
    vector_bytes: int | None = None


class PlannedStep(BaseModel, frozen=True):
    """A step, how it stands, and what it takes."""

    step: str
    look: StepState
    takes: Takes = Takes()


class Plan(BaseModel, frozen=True):
    """What a run would do.

    Attributes
    ----------
    points
        Of the source; None if nothing was measured.
    route
        How the target comes to its vectors.
    """

    source: str
    target: str
    points: int | None
    route: PlannedRoute
    steps: tuple[PlannedStep, ...]


def plan_job(
    spec: JobSpec, state: str | Path, *, cutover: bool = False, measure: bool = True
) -> Plan:
    """Look at each step of a job; nothing is written.

    Parameters
    ----------
    measure
        Read the source for a second and encode 64 texts, if a step is due that takes long;
        without it nothing is said of tokens and times.

    Raises
    ------
    MismatchError, TargetExistsError
        If a run could not end well.
    VecmigrateError
        From the source, the target and the encoder.
    """
    with (
        patience(spec.wait, unless_said=True),
        closing(open_state(state if Path(state).exists() else _IN_MEMORY)) as records,
    ):
        moving = JobContext(spec, Path(state), records)
        steps = [(step, step.look()) for step in steps_of(moving, cutover=cutover)]
        due = any(look.is_due for step, look in steps if step.name != "cutover")
        measured = probe(moving.source, spec) if measure and due else None
        route = _route(moving, {step.name: look for step, look in steps})
        return Plan(
            source=moving.source,
            target=moving.target,
            points=None if measured is None else measured.count,
            route=route,
            steps=tuple(
                PlannedStep(
                    step=step.name, look=look, takes=_takes(step, look, spec, measured, route)
                )
                for step, look in steps
            ),
        )


def _route(moving: JobContext, looks: Mapping[str, StepState]) -> PlannedRoute:
    made = None if moving.published() is None else moving.route
    holds = not looks[DryRunStep.name].is_due
    report = report_in(moving.spec.dry_run.out) if holds else None
    return planned_route(moving.spec.migrate.route, made, report)


def _takes(
    step: Step, look: StepState, spec: JobSpec, measured: Probe | None, route: PlannedRoute
) -> Takes:
    if not look.is_due:
        return Takes()
    if measured is None:
        # The dry run has measured what its route costs.
        known = route.cost if step.name == "migrate" else None
        return Takes() if known is None else _cost(known, None)
    both = measured.count / measured.translate_rate
    if isinstance(step, DryRunStep):
        _, budget = bounds(step.options(), measured.count)
        # Sampled, drawn from and translated: three readings.
        return _embedding(budget, measured, 2 * measured.count / measured.read_rate + both)
    if step.name == "migrate":
        takes = Takes(seconds=both)
        if route.cost is not None and route.cost.texts:
            takes = _cost(route.cost, both)
        elif route.cost is None and spec.migrate.route in (RouteName.REEMBED, RouteName.MIXED):
            # Which share a mixture embeds, the dry run tells: it may be all.
            takes = _embedding(Budget(texts=measured.count), measured, both)
        size = _FLOAT * measured.count * measured.target_dim
        return takes.model_copy(update={"vector_bytes": size})
    if step.name == "sync":
        asked = spec.sync.budget
        budget = Budget(texts=0) if asked is None else Budget.parse(asked)
        return _embedding(budget, measured, measured.count / measured.read_rate)
    if step.name == "verify":
        reading = measured.count / measured.read_rate + both
        sampled = min(spec.verify.encoded, measured.count) if route.embeds else 0
        return (
            _embedding(Budget(texts=sampled), measured, reading)
            if sampled
            else Takes(seconds=reading)
        )
    return Takes()


def _embedding(budget: Budget, measured: Probe, reading: float) -> Takes:
    texts = budget.in_texts(measured.tokens_per_text)
    return _cost(measured.encoder.cost(texts, round(texts * measured.tokens_per_text)), reading)


def _cost(cost: Cost, reading: float | None) -> Takes:
    """Return what embedding takes beside reading, whose seconds may not be known."""
    return Takes(
        texts=cost.texts,
        tokens=cost.tokens,
        money=cost.money,
        seconds=None if reading is None else reading + 3600 * (cost.hours or 0.0),
    )


_TEXTS = 64
_WARMING = 8
_SECONDS = 1.0
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """What was measured.

    Attributes
    ----------
    count, target_dim
        The source's points, and the new space's dimensions.
    encoder
        The new one, its speed measured if it reads texts.
    tokens_per_text
        Mean of the first texts.
    read_rate, translate_rate
        Points a second: read alone, and read and multiplied by a matrix of the two dimensions.
    """

    count: int
    target_dim: int
    encoder: MeteredEncoder
    tokens_per_text: float
    read_rate: float
    translate_rate: float


def probe(source: str, spec: JobSpec) -> Probe:
    """Read for about a second, and encode 64 texts.

    Raises
    ------
    UsageError, InputError, MissingDependencyError, UnreachableError
        From the source and the encoder.
    """
    meter = Meter(price_per_million_tokens=spec.dry_run.price_per_million_tokens)
    encoder = MeteredEncoder(open_encoder(spec.target.encoder), meter)
    with open_source(source) as opened:
        described = opened.describe()
        texts = _first_texts(opened, described.text_field)
        if encoder.needs_texts and texts:
            # What a first call loads and compiles is not paid for again.
            encoder.encoder.encode(texts[:_WARMING])
            encoder.encode(texts[:_TEXTS])
        target_dim = encoder.identity.dimension
        rates = _rates(opened, described.dimension, target_dim)
    return Probe(described.count, target_dim, encoder, encoder.tokens_per_text(texts), *rates)


def _first_texts(source: Source, field: str | None) -> list[str]:
    batch = next(source.batches(_BATCH), None)
    found = None if batch is None else batch.texts(field)
    return [text for text in found or () if text]


def _rates(source: Source, source_dim: int, target_dim: int) -> tuple[float, float]:
    matrix = np.ones((source_dim, target_dim), dtype=np.float32)
    points, reading, translating = 0, 0.0, 0.0
    last = time.perf_counter()
    for batch in source.batches(_BATCH):
        read = time.perf_counter()
        batch.vectors @ matrix
        translated = time.perf_counter()
        points += len(batch)
        reading += read - last
        translating += translated - read
        last = translated
        if reading + translating > _SECONDS:
            break
    return points / max(reading, 1e-9), points / max(reading + translating, 1e-9)
