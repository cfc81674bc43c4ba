"""The record of verifications, in the state file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vecmigrate.state.file import StateTable
from vecmigrate.verification.record import Verification

_TABLE = """
CREATE TABLE IF NOT EXISTS verifications (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    source_contents TEXT NOT NULL,
    passed INTEGER NOT NULL,
    record TEXT NOT NULL
)
"""


class Kept(BaseModel):
    """A verification with its number in the state file."""

    model_config = ConfigDict(frozen=True)

    number: int
    verification: Verification


class VerificationLog(StateTable):
    """The verifications that a state file knows of."""

    schema = _TABLE

    def add(self, target: str, verification: Verification) -> int:
        """Keep a verification of the collection ``target``, in its one spelling."""
        with self._transaction() as begun:
            cursor = begun.execute(
                "INSERT INTO verifications "
                "(target, source_contents, passed, record) VALUES (?, ?, ?, ?)",
                (
                    target,
                    verification.source_contents,
                    verification.passed,
                    verification.model_dump_json(),
                ),
            )
        return int(cursor.lastrowid or 0)

    def latest(self, target: str) -> Kept | None:
        """Return the last verification of a collection."""
        return self._one("target = ?", target)

    def latest_of_source(self, contents: str) -> Kept | None:
        """Return the last verification that passed and had a source with these contents."""
        return self._one("passed AND source_contents = ?", contents)

    def get(self, number: int) -> Kept | None:
        """Return a verification by its number."""
        return self._one("id = ?", number)

    def _one(self, condition: str, value: str | int) -> Kept | None:
        with self._transaction() as begun:
            row = begun.execute(
                f"SELECT id, record FROM verifications WHERE {condition} ORDER BY id DESC LIMIT 1",
                (value,),
            ).fetchone()
        if row is None:
            return None
        return Kept(number=row[0], verification=Verification.model_validate_json(row[1]))
