"""What each step of a job came to, and what it came from."""

from __future__ import annotations

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

    schema = """
    CREATE TABLE IF NOT EXISTS steps (
        job TEXT NOT NULL,
        step TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (job, step)
    )
    """

    def find(self, job: str, step: str) -> StepRecord | None:
        """Return a step's record; None where it has not ended, or another version wrote it."""
        with self._transaction() as begun:
            row = begun.execute(
                "SELECT record FROM steps WHERE job = ? AND step = ?", (job, step)
            ).fetchone()
        try:
            return None if row is None else StepRecord.model_validate_json(row[0])
        except ValidationError:
            return None

    def save(self, job: str, step: str, record: StepRecord) -> None:
        """Store a step's record, in the place of an earlier one."""
        with self._transaction() as begun:
            begun.execute(
                "INSERT OR REPLACE INTO steps (job, step, record) VALUES (?, ?, ?)",
                (job, step, record.model_dump_json()),
            )
