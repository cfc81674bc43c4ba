"""Brings a target that is there in step with its source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vecmigrate.connector.registry import open_source
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus
from vecmigrate.state.migrations import MigrationRecord
from vecmigrate.state.steps import StepRecord
from vecmigrate.sync.back import sync_back
from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.run import sync


def run_sync(
    source: str,
    target: str,
    translator: Path | None,
    options: SyncOptions,
    state: Path,
    around: RunHooks,
) -> SyncResult:
    """Bring a target in step with its source; raises as :func:`sync`."""
    one = partial(sync, source, target, translator, state, options)
    return _recorded(source, target, "syncing", one, around)


def run_sync_back(
    source: str, target: str, options: SyncOptions, state: Path, around: RunHooks
) -> SyncResult:
    """Bring what changed at a new collection to the old one; raises as :func:`sync_back`."""
    one = partial(sync_back, source, target, state, options)
    return _recorded(source, target, "syncing back", one, around)


def _recorded(
    source: str, target: str, stage: str, one: Callable[..., SyncResult], around: RunHooks
) -> SyncResult:
    with (
        around.recorded("sync", source, target) as counts,
        around.stoppable() as stop,
        around.stage(stage, None) as advance,
    ):
        result = one(stop=stop, announce=around.announce, progress=advance)
        counts.update(result.counts())
    return result


def job_options(moving: JobContext) -> SyncOptions:
    """Return the options of a job's syncs."""
    asked, encoder = dict(moving.spec.sync), moving.route_encoder
    if not moving.route.translates:
        # Nothing is left to re-embed.
        asked["reembed_budget"] = None
    elif moving.spec.sync.budget is not None:
        encoder = moving.spec.target.encoder
    return SyncOptions(
        **asked,
        keep_anchors=moving.route_anchors,
        on_bad_vector=moving.spec.on_bad_vector,
        batch_size=moving.spec.migrate.batch_size,
        encoder=encoder,
        price_per_million_tokens=moving.spec.dry_run.price_per_million_tokens,
        on_missing_text=moving.spec.migrate.on_missing_text,
    )


class SyncStep:
    """The sync; due if the source may have changed since it was last read."""

    name = "sync"

    def __init__(self, moving: JobContext) -> None:
        self._moving = moving
        self._asked = moving.spec.sync

    def look(self) -> StepState:
        job = self._moving.published()
        if job is None:
            return StepStatus.NOTHING.because("migrate writes all of the source")
        self._moving.check_made_by(job)
        if self._asked.reembed_budget is not None and self._moving.route.translates:
            return StepStatus.DUE.because(
                f"re-embeds up to {self._asked.budget}, and what the source changed"
            )
        with open_source(self._moving.source) as source:
            now, tells_all = source.fingerprint(), source.fingerprint_tells_all
        if now != self._read_before(job):
            return StepStatus.DUE.because("the source has changed")
        if not tells_all and not self._moving.just_migrated:
            return StepStatus.DUE.because(
                "the source's store does not tell what was changed in its place"
            )
        return StepStatus.DONE.because("the source is as it was read")

    def do(self, around: RunHooks) -> StepState:
        moving = self._moving
        job = moving.published()
        before = moving.fingerprint()
        options = job_options(moving)
        result = run_sync(
            moving.source, moving.target, moving.route_translator, options, moving.state, around
        )
        if job is not None:
            moving.save(
                self.name, StepRecord(inputs={"source": before, "migration": job.provenance.run()})
            )
        return StepStatus.DONE.because(_told(result))

    def _read_before(self, job: MigrationRecord) -> str:
        record = self._moving.find(self.name)
        if record is not None and record.inputs["migration"] == job.provenance.run():
            return record.inputs["source"]
        return job.belongings.source_fingerprint


def _told(result: SyncResult) -> str:
    if not result.wrote:
        return f"nothing to write, {result.count:,} points are in step"
    told = f"{result.arrived:,} arrived, {result.changed:,} changed, {result.vanished:,} vanished"
    return f"{told}, {result.reembedded:,} re-embedded" if result.reembedded else told
