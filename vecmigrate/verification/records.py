"""The record of verifications, in the state file."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, JsonValue, computed_field

from vecmigrate.points.collection import EncoderIdentity
from vecmigrate.state.file import StateTable


class StoredVerification(BaseModel, frozen=True):
    """A verification with its number in the state file."""

    number: int
    verification: Verification


class VerificationLog(StateTable):
    """The verifications that a state file knows of."""

    name = "verifications"
    columns = (
        "id INTEGER PRIMARY KEY, target TEXT NOT NULL, source_contents TEXT NOT NULL, "
        "passed INTEGER NOT NULL, record TEXT NOT NULL"
    )

    def add(self, target: str, verification: Verification) -> int:
        """Keep a verification of the collection ``target``, in its one spelling."""
        return self._put(
            target=target,
            source_contents=verification.source_contents,
            passed=verification.passed,
            record=verification.model_dump_json(),
        )

    def latest(self, target: str) -> StoredVerification | None:
        """Return the last verification of a collection."""
        return self._one("target = ?", target)

    def latest_of_source(self, contents: str) -> StoredVerification | None:
        """Return the last verification that passed and had a source with these contents."""
        return self._one("passed AND source_contents = ?", contents)

    def get(self, number: int) -> StoredVerification | None:
        """Return a verification by its number."""
        return self._one("id = ?", number)

    def _one(self, condition: str, value: str | int) -> StoredVerification | None:
        latest = f"{condition} ORDER BY id DESC LIMIT 1"
        for number, record in self._rows("id, record", latest, value):
            found = Verification.model_validate_json(record)
            return StoredVerification(number=number, verification=found)
        return None


class CheckResult(StrEnum):
    """How a check ended; only a failed one fails the verification."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"


class Check(BaseModel, frozen=True):
    """One question asked of a collection.

    Attributes
    ----------
    summary
        One line without a full stop, for a person.
    figures
        What it rests on, for a machine.
    """

    name: str
    outcome: CheckResult
    summary: str
    figures: dict[str, JsonValue] = {}

    @classmethod
    def of(cls, name: str, passed: bool, summary: str, **figures: JsonValue) -> Self:
        """Return a check that passed or failed."""
        outcome = CheckResult.PASSED if passed else CheckResult.FAILED
        return cls(name=name, outcome=outcome, summary=summary, figures=figures)

    @classmethod
    def skipped(cls, name: str, why: str, **figures: JsonValue) -> Self:
        """Return a check that could not be made."""
        return cls(name=name, outcome=CheckResult.SKIPPED, summary=why, figures=figures)


class Verification(BaseModel, frozen=True):
    """A verification's record.

    Attributes
    ----------
    source, target
        URIs that lead there from any directory.
    source_fingerprint, target_fingerprint
        What the two were when they were read, by which a later change is told.
    source_contents, target_contents
        Digests of all their points, vectors included, wherever the collection is by now; bad
        vectors that were left out do not count.
    translator_sha256
        The translator file that the target was compared with; None if there is none.
    source_encoder, target_encoder
        Whose queries either one answers, None if that is not known.
    full
        True if every vector was compared, not a sample.
    finished_at
        ISO 8601, UTC.
    """

    vecmigrate_version: str
    source: str
    target: str
    source_fingerprint: str
    target_fingerprint: str
    source_contents: str
    target_contents: str
    translator_sha256: str | None
    source_encoder: EncoderIdentity | None
    target_encoder: EncoderIdentity | None
    full: bool
    checks: tuple[Check, ...]
    finished_at: str
    seconds: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """True if no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is CheckResult.FAILED)

    def counts(self) -> dict[str, int]:
        """Return the vectors compared and found wrong, as a record of the run keeps it."""
        [figures] = [check.figures for check in self.checks if check.name == "vectors"]
        return {
            name: count
            for name, count in figures.items()
            if name in ("compared", "wrong") and isinstance(count, int)
        }
