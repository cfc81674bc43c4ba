"""What the steps of a job share: where it moves what, and how far the move has come."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from vecmigrate.connector.addresses import canonical_uri, followed_uri
from vecmigrate.connector.registry import open_source
from vecmigrate.dry_run.anchoring import ANCHORS_FILE
from vecmigrate.dry_run.assembling import TRANSLATOR_FILE
from vecmigrate.errors import InputError, MismatchError, TargetExistsError
from vecmigrate.jobs.digests import file_digest
from vecmigrate.jobs.spec import JobSpec
from vecmigrate.state.migrations import Job, JobStatus, JobTable, job_key
from vecmigrate.state.steps import StepRecord, StepTable


class Moving:
    """A job with its state.

    Parameters
    ----------
    state
        The state file.
    records
        A connection to it.

    Attributes
    ----------
    just_migrated
        True if this run has migrated, and the target is in step with what it read.
    """

    def __init__(self, spec: JobSpec, state: Path, records: sqlite3.Connection) -> None:
        self.spec = spec
        self.state = state
        self.records = records
        self.source, self.target = spec.source.uri, spec.target.uri
        self.key = job_key(self.source, self.target)
        self.just_migrated = False
        self._steps = StepTable(records)
        if canonical_uri(followed_uri(self.source)) == canonical_uri(self.target):
            raise MismatchError(
                f"{self.source} leads to {self.target} itself",
                remedy="The move is done where readers were cut over from it; name what was kept "
                "as the source, or remove the job.",
            )

    @property
    def translator(self) -> Path:
        """The file that the dry run writes."""
        return self.spec.dry_run.out / TRANSLATOR_FILE

    @property
    def anchors(self) -> Path | None:
        """The anchors whose true vectors are kept; None where none are."""
        if not self.spec.migrate.keep_anchors:
            return None
        given = self.spec.dry_run.anchors
        return given if isinstance(given, Path) else self.spec.dry_run.out / ANCHORS_FILE

    def find(self, step: str) -> StepRecord | None:
        """Return a step's record."""
        return self._steps.find(self.key, step)

    def save(self, step: str, record: StepRecord) -> None:
        """Keep a step's record."""
        self._steps.save(self.key, step, record)

    def fingerprint(self) -> str:
        """Return the source's fingerprint, as it is now."""
        with open_source(self.source) as source:
            return source.fingerprint()

    def migration(self) -> Job | None:
        """Return the migration's record; None where it was not begun."""
        return JobTable(self.records).find(self.source, self.target)

    def published(self) -> Job | None:
        """Return the migration's record where its target is there.

        Raises
        ------
        TargetExistsError
            Where another collection is.
        """
        job = self.migration()
        if job is not None and job.status is not JobStatus.DONE:
            return None
        try:
            with open_source(self.target) as target:
                made = target.describe().provenance
        except InputError:
            return None
        if job is None or made is None or made.run() != job.provenance.run():
            raise TargetExistsError(
                f"{self.target} is there, and no run of this job made it",
                remedy="Name another target in the job, or move that away.",
            )
        return job

    def check_made_by(self, job: Job) -> None:
        """Raise :class:`MismatchError` unless the translator here is the target's."""
        if file_digest(self.translator) != job.belongings.translator:
            raise MismatchError(
                f"{self.target} was made with another translator than {self.translator}",
                remedy="Name another target in the job for a new migration, or put the file back.",
            )
