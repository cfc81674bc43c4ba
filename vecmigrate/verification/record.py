"""What a verification found, as it is kept and shown."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue, computed_field

from vecmigrate.points.collection import EncoderIdentity


class Outcome(StrEnum):
    """How a check ended; only a failed one fails the verification."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"


class Check(BaseModel):
    """One question asked of a collection.

    Attributes
    ----------
    summary
        One line without a full stop, for a person.
    figures
        What it rests on, for a machine.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    summary: str
    figures: dict[str, JsonValue] = {}


class Verification(BaseModel):
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
        The translator file that the target was compared with.
    source_encoder, target_encoder
        Whose queries either one answers, None where that is not known.
    full
        True where every vector was compared, not a sample.
    finished_at
        ISO 8601, UTC.
    """

    model_config = ConfigDict(frozen=True)

    vecmigrate_version: str
    source: str
    target: str
    source_fingerprint: str
    target_fingerprint: str
    source_contents: str
    target_contents: str
    translator_sha256: str
    source_encoder: EncoderIdentity | None
    target_encoder: EncoderIdentity | None
    full: bool
    checks: tuple[Check, ...]
    finished_at: str
    seconds: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """True where no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    def counts(self) -> dict[str, int]:
        """Return the vectors compared and found wrong, as a record of the run keeps it."""
        [figures] = [check.figures for check in self.checks if check.name == "vectors"]
        return {
            name: count
            for name, count in figures.items()
            if name in ("compared", "wrong") and isinstance(count, int)
        }
