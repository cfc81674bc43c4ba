"""Writes the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vecmigrate.connector.registry import open_source
from vecmigrate.jobs.shares import with_measured_share
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus
from vecmigrate.migration import MigrateOptions, MigrationResult, migrate
from vecmigrate.migration.reembed import LEFT_OUT, refused_line
from vecmigrate.points.ids import name_some


def run_migration(
    source: str,
    target: str,
    translator: Path | None,
    options: MigrateOptions,
    state: Path,
    around: RunHooks,
) -> tuple[MigrationResult, list[str]]:
    """Migrate, and return what came of it, with what a user should know; raises as `migrate`."""
    options = with_measured_share(options, translator)
    meter = options.meter()
    embeds = options.encoder is not None
    with (
        around.recorded("migrate", source, target) as counts,
        open_source(source) as opened,
        around.stoppable() as stop,
    ):
        described = opened.describe()
        with around.stage(
            "re-embedding" if embeds else "migrating",
            described.count,
            bytes_each=4 * described.dimension,
            unit="text" if embeds else "vec",
            note=meter.line if embeds else None,
        ) as advance:
            result = migrate(
                opened,
                target,
                translator,
                options,
                state=state,
                meter=meter,
                stop=stop,
                announce=around.announce,
                progress=advance,
            )
        counts.update(result.counts())
    return result, list(dict.fromkeys((*described.notes, *result.notes, *result.target.notes)))


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
        options = spec.migrate.options(
            keep_anchors=moving.route_anchors, on_bad_vector=spec.on_bad_vector, **self._embedding()
        )
        around.announce(f"{self.name}: {moving.route}")
        result, _ = run_migration(
            moving.source, moving.target, moving.route_translator, options, moving.state, around
        )
        moving.just_migrated = result.in_step
        if result.refused_ids:
            around.announce(refused_line(result.refused_ids, result.skipped_ids))
        if result.skipped_ids:
            what = LEFT_OUT if moving.route.embeds else "bad vectors,"
            around.announce(f"left out were {what} ids {name_some(result.skipped_ids)}")
        if result.quarantined_ids:
            refused = name_some(result.quarantined_ids)
            around.announce(f"refused by the store: ids {refused}, see {result.dead_letters}")
        return StepStatus.DONE.because(f"{result.written:,} points were written")

    def _embedding(self) -> dict[str, Any]:
        """The options of a migration that embeds texts; none if all are translated."""
        moving, spec, route = self._moving, self._moving.spec, self._moving.route
        if not route.embeds:
            return {}
        shared = {} if route.share is None else {"reembed": route.share, "order": route.order}
        anchors = spec.dry_run.anchors
        return {
            "encoder": moving.route_encoder,
            "on_missing_text": spec.migrate.on_missing_text,
            "budget": spec.migrate.budget,
            "price_per_million_tokens": spec.dry_run.price_per_million_tokens,
            "reuse": [spec.dry_run.out, *([anchors] if isinstance(anchors, Path) else [])],
            **shared,
        }
