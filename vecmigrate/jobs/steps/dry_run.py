"""Measures the move, fits the map and holds the figures against the gates."""

from __future__ import annotations

from pathlib import Path

from vecmigrate.dry_run import DryRunOptions, dry_run
from vecmigrate.dry_run.options import MeasureOptions
from vecmigrate.dry_run.verdict import EXIT_CODES
from vecmigrate.errors import ExitCode, MismatchError
from vecmigrate.jobs.steps.base import (
    JobContext,
    RunHooks,
    StepState,
    StepStatus,
    changed,
    facts_digest,
    file_digest,
    files_digests,
)
from vecmigrate.report.file import REPORT_JSON, save_report
from vecmigrate.report.html import REPORT_HTML, write_html
from vecmigrate.report.schema import RouteName
from vecmigrate.state.files import note_files
from vecmigrate.state.steps import StepRecord

_MAP = {
    "map": "encoders or options of the map are other ones",
    "anchors": "the anchor file is another one",
}
_MEASURED = {
    "source": "the source has changed",
    "measuring": "gates or options of the dry run are other ones",
    "queries": "the queries are other ones",
    "labels": "the labels are other ones",
}
_WORDS = {
    ExitCode.OK: "go",
    ExitCode.NO_GO: "no-go: a gate is not met",
    ExitCode.TOO_SMALL: "too few probes to tell whether the gates are met",
}


class DryRunStep:
    """The dry run; what it spent on the encoder is not spent again."""

    name = "dry-run"

    def __init__(self, moving: JobContext) -> None:
        self._moving = moving
        self._spec = moving.spec

    def look(self) -> StepState:
        record = self._moving.find(self.name)
        job = self._moving.published()
        now = self._inputs()
        if record is None:
            if job is not None:
                raise MismatchError(
                    f"{self._moving.target} was migrated before this job was",
                    remedy="Keep it in step with `vecmigrate sync`, or name another target.",
                )
            return StepStatus.DUE.because("not done yet")
        other = changed(record.inputs, now, _MAP)
        if job is not None:
            # Its map is in use: a source that grew, or other gates, are no reason to change it.
            if other:
                raise MismatchError(
                    f"{self._moving.target} was made before the job was changed ({other})",
                    remedy="Name another target in the job for a new migration, or change it back.",
                )
            self._moving.check_made_by(job)
            self._check_route()
            route = self._moving.route
            made = f"the route that it chose ({route})" if route.embeds else "its translator"
            return StepStatus.DONE.because(f"{self._moving.target} was made by {made}")
        other = changed(record.inputs, now, {**_MAP, **_MEASURED})
        if not other and files_digests(map(Path, record.outputs)) != record.outputs:
            other = f"files in {self._spec.dry_run.out} are gone or other ones"
        if other:
            return StepStatus.DUE.because(other)
        return self._ended(record)

    def _check_route(self) -> None:
        asked, made = self._spec.migrate.route, self._moving.route
        # What is searched in two stages was translated.
        kind = RouteName.TRANSLATE if asked is RouteName.TWO_STAGE else asked
        if asked is not RouteName.AUTO and kind.value != made.kind.value:
            raise MismatchError(
                f"{self._moving.target} was made by another route ({made}) than the job says "
                f"({asked})",
                remedy="Name another target in the job for a new migration, or change it back.",
            )

    def do(self, around: RunHooks) -> StepState:
        spec, given = self._spec, self._spec.dry_run
        inputs = self._inputs()
        anchors = given.anchors if isinstance(given.anchors, Path) else None
        note_files(self._moving.state, spec.source.uri, given.out, anchors)
        report = dry_run(
            spec.source.uri,
            spec.target.encoder,
            given.out,
            old_encoder=spec.source.encoder,
            query_encoder=spec.target.query_encoder,
            options=self.options(),
            stage=around.stage,
            announce=around.announce,
        )
        save_report(report, given.out)
        write_html(report, given.out)
        for line in report.headline:
            around.announce(line)
        made = [given.out / REPORT_JSON, given.out / REPORT_HTML, self._moving.translator]
        if self._moving.anchors is not None:
            made.append(self._moving.anchors)
        record = StepRecord(
            inputs=inputs, outputs=files_digests(made), exit_code=EXIT_CODES[report.verdict.outcome]
        )
        self._moving.save(self.name, record)
        return self._ended(record)

    def options(self) -> DryRunOptions:
        """The job's options as those of a dry run."""
        given = self._spec.dry_run
        shared = {name: getattr(given, name) for name in MeasureOptions.model_fields}
        return DryRunOptions(
            **shared,
            route=self._spec.migrate.route,
            gates=self._spec.gates,
            on_bad_vector=self._spec.on_bad_vector,
        )

    def _inputs(self) -> dict[str, str]:
        spec, given = self._spec, self._spec.dry_run
        of_map = {"method", "texts", "strategy", "anchors", "seed"}
        files = {"queries": given.queries, "labels": given.labels}
        anchors = given.anchors if isinstance(given.anchors, Path) else None
        return {
            "source": self._moving.fingerprint(),
            "map": facts_digest(
                {
                    "encoder": spec.target.encoder,
                    "on_bad_vector": spec.on_bad_vector,
                    "options": given.model_dump(mode="json", include=of_map),
                }
            ),
            "measuring": facts_digest(
                {
                    "old_encoder": spec.source.encoder,
                    "query_encoder": spec.target.query_encoder,
                    "options": given.model_dump(mode="json", exclude=of_map),
                    "gates": spec.gates,
                    "route": spec.migrate.route,
                }
            ),
            **{name: file_digest(path) for name, path in files.items() if path is not None},
            **({} if anchors is None else {"anchors": file_digest(anchors)}),
        }

    def _ended(self, record: StepRecord) -> StepState:
        code = ExitCode(record.exit_code)
        gates = "" if self._spec.gates else ", no gates given"
        page = self._spec.dry_run.out / REPORT_HTML
        standing = StepStatus.DONE if code is ExitCode.OK else StepStatus.FAILED
        ended = f"{record.finished_at:%Y-%m-%d %H:%M} UTC"
        return standing.because(f"{_WORDS[code]}{gates} ({ended}, {page})", exit_code=code)
