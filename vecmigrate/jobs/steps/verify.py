"""Holds the target against the source."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection

from vecmigrate.connector.addresses import followed_place
from vecmigrate.connector.registry import open_source
from vecmigrate.dry_run.options import Stage
from vecmigrate.errors import ExitCode
from vecmigrate.jobs.steps.base import (
    JobContext,
    RunHooks,
    StepState,
    StepStatus,
    changed,
    facts_digest,
    file_digest,
)
from vecmigrate.state.steps import StepRecord
from vecmigrate.verification import CheckResult, Verification, VerifyOptions, verify
from vecmigrate.verification.records import VerificationLog

_INPUTS = {
    "options": "options of the verification are other ones",
    "queries": "the queries are other ones",
    "translator": "the translator is another one",
    "source": "the source has changed",
    "target": "the target has changed",
}


def run_verification(
    source: str,
    target: str,
    translator: Path | None,
    options: VerifyOptions,
    records: Connection,
    stage: Stage,
    state: Path,
) -> Verification:
    """Verify a target and keep the record; raises as :func:`verify`."""
    with (
        # Held open: embedded storage is loaded anew if nobody else has it open.
        open_source(source) as old,
        open_source(target) as new,
        stage("verifying", old.describe().count + new.describe().count) as advance,
    ):
        found = verify(source, target, translator, options, progress=advance, state=state)
    VerificationLog(records).add(followed_place(target), found)
    return found


class VerifyStep:
    """The verification; one that failed is done again."""

    name = "verify"

    def __init__(self, moving: JobContext) -> None:
        self._moving = moving
        self._asked = moving.spec.verify

    def look(self) -> StepState:
        if self._moving.published() is None:
            return StepStatus.DUE.because("after the migration")
        record = self._moving.find(self.name)
        if record is None:
            return StepStatus.DUE.because("not done yet")
        if record.exit_code:
            return StepStatus.DUE.because("it failed the last time")
        other = changed(record.inputs, self._inputs(), _INPUTS)
        if other:
            return StepStatus.DUE.because(other)
        passed = VerificationLog(self._moving.records).latest(followed_place(self._moving.target))
        if passed is None or not passed.verification.passed:
            return StepStatus.DUE.because("a later verification did not pass")
        return StepStatus.DONE.because(
            f"passed, and nothing has changed ({passed.verification.finished_at[:16]})"
        )

    def do(self, around: RunHooks) -> StepState:
        moving = self._moving
        job = moving.migration()
        letters = None if job is None else self._dead_letters(job.key)
        options = VerifyOptions(
            **dict(self._asked),
            keep_anchors=moving.route_anchors,
            on_bad_vector=moving.spec.on_bad_vector,
            encoder=moving.route_encoder,
            price_per_million_tokens=moving.spec.dry_run.price_per_million_tokens,
            on_missing_text=moving.spec.migrate.on_missing_text,
            dead_letters=letters,
        )
        with around.recorded(self.name, moving.source, moving.target) as counts:
            found = run_verification(
                moving.source,
                moving.target,
                moving.route_translator,
                options,
                moving.records,
                around.stage,
                moving.state,
            )
            counts.update(found.counts())
        for check in found.checks:
            if check.outcome is not CheckResult.PASSED:
                around.announce(f"{check.name}: {check.outcome.value}: {check.summary}")
        look = _told(found)
        moving.save(
            self.name,
            StepRecord(
                inputs={
                    **self._inputs(),
                    "source": found.source_fingerprint,
                    "target": found.target_fingerprint,
                },
                exit_code=look.exit_code,
            ),
        )
        return look

    def _inputs(self) -> dict[str, str]:
        moving, queries = self._moving, self._asked.queries
        with open_source(moving.target) as target:
            fingerprint = target.fingerprint()
        return {
            "options": facts_digest(
                {
                    **self._asked.model_dump(mode="json"),
                    "keep_anchors": moving.anchors is not None,
                    "on_bad_vector": moving.spec.on_bad_vector,
                }
            ),
            "translator": file_digest(moving.translator),
            "source": moving.fingerprint(),
            "target": fingerprint,
            **({} if queries is None else {"queries": file_digest(queries)}),
        }

    def _dead_letters(self, key: str) -> Path | None:
        given = self._moving.spec.migrate.dead_letters
        path = given or self._moving.state.parent / "dead-letters" / f"{key}.jsonl"
        return path if path.exists() else None


def _told(found: Verification) -> StepState:
    if not found.passed:
        failed = ", ".join(check.name for check in found.failures)
        return StepStatus.FAILED.because(f"failed: {failed}", exit_code=ExitCode.VERIFICATION)
    warned = any(check.outcome is CheckResult.WARNING for check in found.checks)
    return StepStatus.DONE.because("passed, with a warning above" if warned else "passed")
