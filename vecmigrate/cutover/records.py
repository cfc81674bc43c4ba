"""The record of which collections readers were led to, in the state file."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel

from vecmigrate.state.file import StateTable


class CutoverRecord(BaseModel, frozen=True):
    """One cutover.

    Attributes
    ----------
    name
        What readers open, in its one spelling.
    previous
        What they had before, by a URI that still leads there; None if they had nothing.
    target, target_spelled
        What they were led to, as given and in its one spelling.
    verification
        Number of the verification it rested on, None if it went without.
    begun_at, done_at, rolled_back_at, dropped_at
        ISO 8601, UTC. An entry is written before readers are led over, so that the way back is
        known whatever happens; ``dropped_at`` is when ``previous`` was deleted, or what ``target``
        was verified against if there was nothing before.
    """

    id: int
    name: str
    previous: str | None
    target: str
    target_spelled: str
    verification: int | None
    begun_at: str
    done_at: str | None = None
    rolled_back_at: str | None = None
    dropped_at: str | None = None


class CutoverLog(StateTable):
    """The cutovers that a state file knows of."""

    name = "cutovers"
    columns = (
        "id INTEGER PRIMARY KEY, name TEXT NOT NULL, previous TEXT, target TEXT NOT NULL, "
        "target_spelled TEXT NOT NULL, verification INTEGER, begun_at TEXT NOT NULL, "
        "done_at TEXT, rolled_back_at TEXT, dropped_at TEXT"
    )

    def begin(
        self,
        name: str,
        previous: str | None,
        target: str,
        target_spelled: str,
        verification: int | None,
    ) -> int:
        """Write an entry before readers are led over; returns its number."""
        return self._put(
            name=name,
            previous=previous,
            target=target,
            target_spelled=target_spelled,
            verification=verification,
            begun_at=_now(),
        )

    def finish(self, number: int) -> None:
        """Note that readers have been led over."""
        self._set(number, done_at=_now())

    def undo(self, number: int) -> None:
        """Note that readers have been led back."""
        self._set(number, rolled_back_at=_now())

    def drop(self, number: int) -> None:
        """Note that what readers had before is deleted."""
        self._set(number, dropped_at=_now())

    def of(self, name: str) -> list[CutoverRecord]:
        """Return the entries of a name that were not undone, the latest first."""
        return self._standing("name", name)

    def leading_to(self, target_spelled: str) -> list[CutoverRecord]:
        """Return the entries that led readers to a collection, not undone, the latest first."""
        return self._standing("target_spelled", target_spelled)

    def _standing(self, column: str, value: str) -> list[CutoverRecord]:
        fields = list(CutoverRecord.model_fields)
        standing = f"{column} = ? AND rolled_back_at IS NULL ORDER BY id DESC"
        rows = self._rows(", ".join(fields), standing, value)
        return [CutoverRecord.model_validate(dict(zip(fields, row, strict=True))) for row in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
