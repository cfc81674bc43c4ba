"""What the state file says of points, and of files that are written anew."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from vecmigrate.connector.addresses import canonical_uri
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.forget.mentions import Mentions
from vecmigrate.forget.scope import Scope
from vecmigrate.points.batch import PointId
from vecmigrate.state.file import open_state, overwrite_freed, transaction
from vecmigrate.state.migrations import MigrationStatus, MigrationTable
from vecmigrate.state.runs import RunLog
from vecmigrate.state.steps import StepTable
from vecmigrate.verification.records import VerificationLog

TAKEN_OUT = "(named a point that was forgotten since)"


class Records:
    """The state file, and the ledgers beside it.

    Parameters
    ----------
    state
        The file.
    connection
        To it.
    """

    def __init__(self, state: Path, connection: sqlite3.Connection) -> None:
        self._state, self._connection = state, connection
        for table in (MigrationTable, RunLog, StepTable, VerificationLog):
            table(connection)

    def bring_along(self, digests: dict[str, str]) -> None:
        """Note the new digest of what is written anew wherever the old one was noted."""
        with transaction(self._connection) as begun:
            for old, new in digests.items():
                begun.execute("UPDATE steps SET record = replace(record, ?, ?)", (old, new))
                begun.execute("UPDATE jobs SET job = replace(job, ?, ?)", (old, new))
        for path in sorted((self._state.parent / "ledgers").glob("*.sqlite")):
            with suppress(InputError, MismatchError), closing(open_state(path)) as ledger:
                _bring_facts_along(ledger, digests)

    def scrub(
        self, ids: frozenset[PointId], mentions: Mentions, scope: Scope, *, look: bool
    ) -> int:
        """Take points out of the records; return how many of these named one.

        Parameters
        ----------
        look
            Count alone.
        """
        changes = [*self._jobs(ids, scope), *self._runs(mentions, scope)]
        changes += self._verifications(ids, mentions, scope)
        if not look:
            with transaction(self._connection) as begun:
                begun.execute("PRAGMA secure_delete = ON").fetchall()
                for statement, values in changes:
                    begun.execute(statement, values)
                for key in scope.keys:
                    # Where a migration that is done was read up to may be an id.
                    begun.execute(
                        "UPDATE jobs SET job = json_set(job, '$.cursor', NULL) "
                        "WHERE key = ? AND json_extract(job, '$.status') = ?",
                        (key, MigrationStatus.DONE),
                    )
            # A row that was replaced is left in the file as well until then.
            overwrite_freed(self._connection)
        return len(changes)

    def _jobs(self, ids: frozenset[PointId], scope: Scope) -> list[tuple[str, Any]]:
        changes = []
        # Read anew: digests may have been brought along since the scope was found.
        for key, job in MigrationTable(self._connection).all():
            if key not in scope.keys or job.status is not MigrationStatus.DONE:
                continue
            left = [i for i in job.skipped_ids if i not in ids]
            if left != job.skipped_ids:
                told = job.model_copy(update={"skipped_ids": left})
                values = (told.model_dump_json(), key)
                changes.append(("UPDATE jobs SET job = ? WHERE key = ?", values))
        return changes

    def _runs(self, mentions: Mentions, scope: Scope) -> list[tuple[str, Any]]:
        others = {canonical_uri(move.target) for move in scope.others}
        rows = self._connection.execute(
            "SELECT id, message, remedy, target_spelled FROM runs WHERE message IS NOT NULL"
        ).fetchall()
        return [
            ("UPDATE runs SET message = ?, remedy = NULL WHERE id = ?", (TAKEN_OUT, number))
            for number, message, remedy, target in rows
            if target not in others and mentions.within(f"{message}\n{remedy or ''}")
        ]

    def _verifications(
        self, ids: frozenset[PointId], mentions: Mentions, scope: Scope
    ) -> list[tuple[str, Any]]:
        others = {canonical_uri(move.target) for move in scope.others}
        rows = self._connection.execute("SELECT id, target, record FROM verifications").fetchall()
        changes = []
        for number, target, record in rows:
            told = json.loads(record)
            named = [_without(check, ids, mentions) for check in told.get("checks", ())]
            if target not in others and any(named):
                changes.append(
                    ("UPDATE verifications SET record = ? WHERE id = ?", (json.dumps(told), number))
                )
        return changes


def _without(check: dict[str, Any], ids: frozenset[PointId], mentions: Mentions) -> bool:
    """Take points out of a check of a verification; tell whether it named one."""
    named = mentions.within(check["summary"])
    if named:
        check["summary"] = TAKEN_OUT
    for name, figure in check["figures"].items():
        if name.endswith("_ids") and isinstance(figure, list):
            left = [each for each in figure if each not in ids]
            named |= left != figure
            check["figures"][name] = left
    return named


def _bring_facts_along(ledger: sqlite3.Connection, digests: dict[str, str]) -> None:
    with transaction(ledger) as begun:
        there = begun.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone()
        for old, new in digests.items() if there else ():
            begun.execute("UPDATE facts SET value = replace(value, ?, ?)", (old, new))
