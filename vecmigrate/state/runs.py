"""What was run, when, and how it ended."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice

from pydantic import BaseModel

from vecmigrate.errors import ExitCode
from vecmigrate.runtime.process import Process
from vecmigrate.state.file import StateTable

RUNNING, KILLED, UNKNOWN = "running", "killed", "unknown"

_ADDED = ("target_spelled", "process", "remedy")
"""Columns that the first state files do not have; an older vecmigrate goes on without them."""

_COLUMNS = (
    "id, command, source, target, begun_at, ended_at, exit_code, message, remedy, process, counts"
)


class Run(BaseModel):
    """A run of a command.

    Attributes
    ----------
    ended_at, exit_code
        None while it is at work, and for good if it was killed.
    message, remedy
        Its error and what to do, else None.
    process
        What ran it; None in the records of the first version.
    counts
        Points, by what was done with them, as ``{"written": 5000}``.
    """

    number: int
    command: str
    source: str | None
    target: str | None
    begun_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    message: str | None
    remedy: str | None
    process: Process | None
    counts: dict[str, int]

    @property
    def seconds(self) -> float | None:
        """How long it took; None if it has not ended."""
        return None if self.ended_at is None else (self.ended_at - self.begun_at).total_seconds()

    def outcome(self) -> str:
        """Return the exit code's name, or ``running``, ``killed`` or ``unknown``.

        Unknown is what has not ended on another machine, or in the records of the first version.
        """
        if self.exit_code is not None:
            known = self.exit_code in {int(code) for code in ExitCode}
            return ExitCode(self.exit_code).name if known else str(self.exit_code)
        there = None if self.process is None else self.process.is_there()
        return {True: RUNNING, False: KILLED, None: UNKNOWN}[there]


class RunLog(StateTable):
    """The runs that a state file knows of."""

    name = "runs"
    columns = (
        "id INTEGER PRIMARY KEY, command TEXT NOT NULL, source TEXT, target TEXT, "
        "begun_at TEXT NOT NULL, ended_at TEXT, exit_code INTEGER, message TEXT, "
        "counts TEXT NOT NULL DEFAULT '{}'"
    )

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        with self._transaction() as begun:
            there = {row[1] for row in begun.execute("PRAGMA table_info(runs)")}
        for column in _ADDED:
            if column not in there:
                self._add(column)

    def _add(self, column: str) -> None:
        with self._transaction() as begun:
            try:
                begun.execute(f"ALTER TABLE runs ADD COLUMN {column} TEXT")
            except sqlite3.OperationalError as error:
                # Another run may have added it since.
                if "duplicate column" not in str(error):
                    raise

    def begin(
        self,
        command: str,
        source: str | None,
        target: str | None,
        target_spelled: str | None = None,
    ) -> int:
        """Note a run of this process that begins now, and return its number.

        Parameters
        ----------
        target_spelled
            The target's one spelling, by which it is found from any directory.
        """
        return self._put(
            command=command,
            source=source,
            target=target,
            target_spelled=target_spelled,
            begun_at=_now(),
            process=Process.this().model_dump_json(),
        )

    def end(
        self,
        number: int,
        exit_code: int,
        *,
        message: str | None = None,
        remedy: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Note that a run ends now."""
        self._set(
            number,
            ended_at=_now(),
            exit_code=int(exit_code),
            message=message,
            remedy=remedy,
            counts=json.dumps(dict(counts or {})),
        )

    def forget(self, number: int) -> None:
        """Know nothing of a run any more."""
        with self._transaction() as begun:
            begun.execute("DELETE FROM runs WHERE id = ?", (number,))

    def latest(
        self,
        count: int,
        *,
        target: str | None = None,
        target_spelled: str | None = None,
        failed: bool = False,
    ) -> list[Run]:
        """Return the last runs, the latest first.

        Parameters
        ----------
        target, target_spelled
            Only those with this target, as it was given or in its one spelling.
        failed
            Only those that ended with another exit code than 0, or were killed.
        """
        wanted: list[str] = ["TRUE"]
        values: list[int | str | None] = []
        if target is not None:
            wanted.append("(target = ? OR target_spelled = ?)")
            values += [target, target_spelled]
        if failed:
            wanted.append("exit_code IS NOT 0")
        with closing(self._those(" AND ".join(wanted), values)) as runs:
            # Whether a run without an end was killed or is at work is not in the file.
            return list(islice((r for r in runs if not failed or r.outcome() != RUNNING), count))

    def get(self, number: int) -> Run | None:
        """Return a run by its number."""
        with closing(self._those("id = ?", [number])) as runs:
            return next(runs, None)

    def _those(self, condition: str, values: list[int | str | None]) -> Generator[Run, None, None]:
        with self._transaction() as begun:
            for row in begun.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE {condition} ORDER BY id DESC", values
            ):
                told = dict(zip(Run.model_fields, row, strict=True))
                for name in ("process", "counts"):
                    told[name] = None if told[name] is None else json.loads(told[name])
                yield Run.model_validate(told)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
