"""What each step of a job came to, and what it came from."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecmigrate.state.file import StateTable


class StepRecord(BaseModel):
    """A step that has ended.

    Attributes
    ----------
    inputs
        Digests of what it was given, by name.
    outputs
        Digests of the files that it made, by path.
    exit_code
        As of the command that does the same.
    """

    model_config = ConfigDict(frozen=True)

    inputs: dict[str, str]
    outputs: dict[str, str] = {}
    exit_code: int = 0
    finished_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class StepTable(StateTable):
    """The steps of jobs that a state file knows of; of each the last time that it ended."""

    name = "steps"
    columns = "job TEXT NOT NULL, step TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (job, step)"

    def find(self, job: str, step: str) -> StepRecord | None:
        """Return a step's record; None if it has not ended, or another version wrote it."""
        for (record,) in self._rows("record", "job = ? AND step = ?", job, step):
            with suppress(ValidationError):
                return StepRecord.model_validate_json(record)
        return None

    def save(self, job: str, step: str, record: StepRecord) -> None:
        """Store a step's record, in the place of an earlier one."""
        self._put(job=job, step=step, record=record.model_dump_json())
