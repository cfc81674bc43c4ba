"""Writes the target."""

from __future__ import annotations

from vecmigrate.connector.registry import open_source
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus
from vecmigrate.migration import migrate
from vecmigrate.points.ids import name_some


class MigrateStep:
    """The migration; one that was killed is continued."""

    name = "migrate"

    def __init__(self, moving: JobContext) -> None:
        self._moving = moving

    def look(self) -> StepState:
        job = self._moving.published()
        if job is not None:
            reason = f"{job.written:,} points were written ({job.provenance.created_at[:16]})"
            return StepStatus.DONE.because(reason)
        begun = self._moving.migration()
        if begun is not None and begun.written:
            return StepStatus.CONTINUES.because(
                f"{begun.written:,} points are written of an unfinished target"
            )
        return StepStatus.DUE.because(f"nothing is at {self._moving.target}")

    def do(self, around: RunHooks) -> StepState:
        moving, spec = self._moving, self._moving.spec
        with (
            around.recorded(self.name, moving.source, moving.target) as counts,
            open_source(moving.source) as source,
            around.stoppable() as stop,
            around.stage("migrating", source.describe().count) as advance,
        ):
            result = migrate(
                source,
                moving.target,
                moving.translator,
                spec.migrate.options(keep_anchors=moving.anchors, on_bad_vector=spec.on_bad_vector),
                state=moving.state,
                stop=stop,
                announce=around.announce,
                progress=advance,
            )
            counts.update(result.counts())
        moving.just_migrated = result.in_step
        if result.skipped_ids:
            around.announce(f"left out for bad vectors: ids {name_some(result.skipped_ids)}")
        if result.quarantined_ids:
            refused = name_some(result.quarantined_ids)
            around.announce(f"refused by the store: ids {refused}, see {result.dead_letters}")
        return StepStatus.DONE.because(f"{result.written:,} points were written")
