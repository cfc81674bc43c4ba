"""What every step of a job is."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from vecmigrate.connector.addresses import canonical_uri, followed_uri
from vecmigrate.connector.registry import open_source
from vecmigrate.dry_run.options import Stage, silent
from vecmigrate.dry_run.report import TRANSLATOR_FILE
from vecmigrate.dry_run.sample import ANCHORS_FILE
from vecmigrate.errors import InputError, MismatchError, TargetExistsError
from vecmigrate.jobs.routes import JobRoute, chosen_route
from vecmigrate.jobs.spec import JobSpec
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.report.schema import RouteKind
from vecmigrate.state.migrations import MigrationRecord, MigrationStatus, MigrationTable, job_key
from vecmigrate.state.steps import StepRecord, StepTable


class StepStatus(StrEnum):
    """Whether a step is to be done."""

    DONE = "done"
    DUE = "to do"
    CONTINUES = "to continue"
    FAILED = "failed"
    """Ended with an exit code that stops the job, and would again."""
    LEFT = "left to you"
    NOTHING = "nothing to do"

    def because(self, reason: str, *, exit_code: int = 0) -> StepState:
        """Return that a step stands so, and why."""
        return StepState(standing=self, reason=reason, exit_code=exit_code)


class StepState(BaseModel, frozen=True):
    """How a step stands, and why.

    Attributes
    ----------
    reason
        One line without a full stop, for a person.
    exit_code
        What a step that failed ended with.
    """

    standing: StepStatus
    reason: str
    exit_code: int = 0

    @property
    def is_due(self) -> bool:
        """True if the step is to be done by a run."""
        return self.standing in (StepStatus.DUE, StepStatus.CONTINUES)

    @property
    def is_left(self) -> bool:
        """True if the step waits for a person to ask for it."""
        return self.standing is StepStatus.LEFT


@dataclass(frozen=True, slots=True)
class RunHooks:
    """What a run tells, and whom it asks.

    Parameters
    ----------
    announce
        Called with lines for a person.
    stage
        Shows progress.
    recorded
        Notes that a command begins and how it ends, given command, source and target; yields the
        counts to note.
    stoppable
        Yields a function that tells whether the run is asked to end.
    """

    announce: Callable[[str], None] = lambda line: None
    stage: Stage = silent
    recorded: Callable[[str, str, str], AbstractContextManager[dict[str, int]]] = lambda *_: (
        nullcontext({})
    )
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = lambda: nullcontext(
        lambda: False
    )


class Step(Protocol):
    """A step of a job: it is looked at, by `plan` and `run`, and done, by `run`."""

    name: str

    def look(self) -> StepState:
        """Tell how the step stands, changing nothing.

        Raises
        ------
        VecmigrateError
            If doing it could not end well.
        """
        ...

    def do(self, around: RunHooks) -> StepState:
        """Do it, keep its record, and tell what it came to."""
        ...


class JobContext:
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
    def route(self) -> JobRoute:
        """How the target comes to its vectors: as it was made, else as the dry run has chosen."""
        job = self.published()
        if job is not None:
            return JobRoute.made(job.belongings)
        chosen = chosen_route(self.spec.dry_run.out)
        return JobRoute(kind=RouteKind.TRANSLATE) if chosen is None else JobRoute.of(chosen)

    @property
    def candidates(self) -> int | None:
        """How many a search in two stages ranks anew; None if the dry run chose another route."""
        chosen = chosen_route(self.spec.dry_run.out)
        return None if chosen is None else chosen.candidates

    @property
    def route_translator(self) -> Path | None:
        """The translator, unless all is embedded."""
        fallen_back = self.spec.migrate.on_missing_text is OnMissingText.TRANSLATE
        return self.translator if self.route.translates or fallen_back else None

    @property
    def route_encoder(self) -> str | None:
        """The new encoder if the route embeds texts."""
        return self.spec.target.encoder if self.route.embeds else None

    @property
    def route_anchors(self) -> Path | None:
        """The anchors whose true vectors stand beside translated ones; None if none do."""
        if self.route.kind is RouteKind.REEMBED:
            return None
        return self._anchors_file if self.route.kind is RouteKind.MIXED else self.anchors

    @property
    def anchors(self) -> Path | None:
        """The anchors whose true vectors are kept; None if none are."""
        return self._anchors_file if self.spec.migrate.keep_anchors else None

    @property
    def _anchors_file(self) -> Path:
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

    def migration(self) -> MigrationRecord | None:
        """Return the migration's record; None if it was not begun."""
        return MigrationTable(self.records).find(self.source, self.target)

    def published(self) -> MigrationRecord | None:
        """Return the migration's record if its target is there.

        Raises
        ------
        TargetExistsError
            If another collection is.
        """
        job = self.migration()
        if job is not None and job.status is not MigrationStatus.DONE:
            return None
        try:
            with open_source(self.target) as target:
                made = target.describe().provenance
        except InputError:
            return None
        if job is None and made is None and self.spec.migrate.shared_target:
            return None
        if job is None or made is None or made.run() != job.provenance.run():
            raise TargetExistsError(
                f"{self.target} is there, and no run of this job made it",
                remedy="Name another target in the job, or move that away.",
            )
        return job

    def check_made_by(self, job: MigrationRecord) -> None:
        """Raise :class:`MismatchError` unless the translator here is the target's."""
        made_with = job.belongings.translator
        if made_with and file_digest(self.translator) != made_with:
            raise MismatchError(
                f"{self.target} was made with another translator than {self.translator}",
                remedy="Name another target in the job for a new migration, or put the file back.",
            )


ABSENT = "absent"


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, or ``absent``."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def files_digests(paths: Iterable[Path]) -> dict[str, str]:
    """Return each file's digest by its path."""
    return {str(path): file_digest(path) for path in paths}


def facts_digest(facts: Mapping[str, object]) -> str:
    """Return the SHA-256 of JSON facts, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def changed(before: Mapping[str, str], now: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Say which inputs differ, as ``names`` has them; "" if none does."""
    return ", ".join(said for name, said in names.items() if before.get(name) != now.get(name))
