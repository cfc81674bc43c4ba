"""What was run, when, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel

from vecmigrate.state.table import StateTable

_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    source TEXT,
    target TEXT,
    begun_at TEXT NOT NULL,
    ended_at TEXT,
    exit_code INTEGER,
    message TEXT,
    counts TEXT NOT NULL DEFAULT '{}'
)
"""


class Run(BaseModel):
    """A run of a command.

    Attributes
    ----------
    ended_at, exit_code
        None while it is at work, and for good where it was killed.
    message
        Its error, else None.
    counts
        What it did, as ``{"written": 5000}``.
    """

    number: int
    command: str
    source: str | None
    target: str | None
    begun_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    message: str | None
    counts: dict[str, int]


class RunLog(StateTable):
    """The runs that a state file knows of."""

    schema = _TABLE

    def begin(self, command: str, source: str | None, target: str | None) -> int:
        """Note a run that begins now, and return its number."""
        with self._transaction() as begun:
            row = begun.execute(
                "INSERT INTO runs (command, source, target, begun_at) VALUES (?, ?, ?, ?)",
                (command, source, target, _now()),
            )
        return int(row.lastrowid or 0)

    def end(
        self,
        number: int,
        exit_code: int,
        *,
        message: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Note that a run ends now."""
        with self._transaction() as begun:
            begun.execute(
                "UPDATE runs SET ended_at = ?, exit_code = ?, message = ?, counts = ? WHERE id = ?",
                (_now(), int(exit_code), message, json.dumps(dict(counts or {})), number),
            )

    def latest(self, count: int) -> list[Run]:
        """Return the last runs, the latest first."""
        with self._transaction() as begun:
            rows = begun.execute(
                "SELECT id, command, source, target, begun_at, ended_at, exit_code, message, "
                "counts FROM runs ORDER BY id DESC LIMIT ?",
                (count,),
            ).fetchall()
        names = list(Run.model_fields)
        return [
            Run.model_validate(dict(zip(names, (*row[:-1], json.loads(row[-1])), strict=True)))
            for row in rows
        ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
