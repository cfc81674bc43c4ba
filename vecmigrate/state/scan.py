"""What a source has now, beside what a ledger knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from vecmigrate.connector.source import Source
from vecmigrate.errors import UsageError
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import source_hashes
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state.change_field import FieldReading, LatestSeen, names_with_values
from vecmigrate.state.ledger import HASH_RULE, Ledger, Origin, stored

BY_HASH, BY_IDS = "hash", "ids"

_SEEN = "(id PRIMARY KEY, vector INTEGER, payload INTEGER, bare INTEGER) WITHOUT ROWID"

ARRIVING = "SELECT id FROM seen WHERE NOT bare AND id NOT IN (SELECT id FROM points)"
"""Points with a vector that the ledger does not know."""
_DIFFERS = """
(seen.vector IS NOT NULL
 AND (seen.vector IS NOT points.vector OR seen.payload IS NOT points.payload))
OR points.vector IS NULL
OR seen.id IN (SELECT id FROM writing)
"""
IS_BARE = f"(bare OR (seen.vector IS NULL AND points.origin IS {Origin.BARE:d}))"
"""Of a point whose contents were not read, the ledger tells."""
CHANGED = f"""
SELECT seen.id AS id FROM seen JOIN points ON points.id = seen.id
WHERE NOT {IS_BARE} AND ({_DIFFERS})
"""
"""Points with a vector that are not as the ledger knows them."""
BARE = f"""
SELECT seen.id AS id FROM seen LEFT JOIN points USING (id) WHERE {IS_BARE} AND ({_DIFFERS})
"""
"""Points without a vector that are not as the ledger knows them."""


@dataclass(frozen=True, slots=True)
class ChangedBy:
    """How changes are to be found.

    Attributes
    ----------
    by
        ``hash``, ``ids``, or the payload field with a point's time of change.
    overlap
        Seconds that a change may take until it is visible: points are read again from this long
        before the latest value of the field that was seen.
    full_every
        Of so many runs by a field, one compares all points.
    """

    by: str = BY_HASH
    overlap: float = 600.0
    full_every: int = 50

    @property
    def field(self) -> str | None:
        """The payload field, if there is one."""
        return None if self.by in (BY_HASH, BY_IDS) else self.by

    @property
    def covers(self) -> str:
        """Names what finds the same in the same collection; ``hash`` finds all."""
        return self.by if self.field is None else f"{self.by} from {self.overlap} s before"


class Way(StrEnum):
    """How changes were found."""

    HASH = "hash"
    IDS = "ids"
    FIELD = "field"
    """By a field: from the store's own index or statistics if it has some, else by reading all."""
    STAMP = "stamp"
    """By files' times or a version, which were as when all points were compared."""


class FoundBy(BaseModel):
    """How the changes of a source were found.

    Attributes
    ----------
    field
        The payload field that was named.
    told_by
        What of the store told which points are late: its index, say; None if all were read.
    since
        The value of the field from which on points were compared, as the field has it.
    read
        Points whose contents were read.
    not_compared
        Points known before of which nothing but the id was looked at, or nothing but the field.
    full
        Why all were compared though a field was named; None if not.
    """

    model_config = ConfigDict(frozen=True)

    way: Way
    field: str | None = None
    told_by: str | None = None
    since: str | None = None
    read: int = 0
    not_compared: int = 0
    full: str | None = None

    def line(self) -> str:
        """Tell it to a person."""
        if self.way is Way.STAMP:
            return (
                "found by the source's file times or version, which are as before: nothing was "
                f"read, {self.not_compared:,} points were not compared"
            )
        if self.way is Way.IDS:
            return f"found by ids alone: {self.not_compared:,} points were not compared"
        if self.way is Way.HASH:
            why = f" ({self.full})" if self.full else ""
            return f"found by hash: all {self.read:,} points were read and compared{why}"
        told = f"the store's {self.told_by}" if self.told_by else "reading all"
        return (
            f"found by {self.field} from {self.since} on, by {told}: {self.read:,} points were "
            f"read, {self.not_compared:,} were not compared"
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """What came of looking at a source.

    Attributes
    ----------
    facts
        What the ledger is to note once the changes are brought, for the next run.
    stamp
        The source's :meth:`Source.stamp` when it was looked at.
    covers
        Which scans of the source would find nothing more: see :attr:`ChangedBy.covers`.
    """

    found_by: FoundBy
    facts: dict[str, Any]
    stamp: str | None = None
    covers: str = BY_HASH

    def note(self, ledger: Ledger) -> None:
        """Note what the next run is to know, once the changes are brought."""
        ledger.note(**self.facts)
        if self.found_by.way is Way.STAMP:
            return
        stamp = self.stamp
        # A point that is not known, as one with a bad vector, is looked at again by every run, and
        # one that vanished until it is deleted at the target.
        differ = any(
            ledger.count(f"{one} WHERE id NOT IN (SELECT id FROM {other})")
            for one, other in (("seen", "points"), ("points", "seen"))
        )
        if differ:
            stamp = None
        note_stamp(ledger, stamp, self.covers)


def note_stamp(ledger: Ledger, stamp: str | None, covers: str = BY_HASH) -> None:
    """Note the stamp of a source of which the ledger has all points.

    Parameters
    ----------
    stamp
        None if the ledger lacks some.
    covers
        See :attr:`ChangedBy.covers`.
    """
    known = {"stamp": stamp, "points": ledger.count("points"), "covers": covers}
    ledger.note(source_as=None if stamp is None else known)


def is_as_noted(source: Source, ledger: Ledger, asked: ChangedBy) -> bool:
    """Tell by a source's stamp alone that a scan would find no change."""
    known = ledger.fact("source_as")
    if asked.field and LatestSeen.of(ledger.fact("latest"), asked.field) is None:
        # Whether points have the field at all has yet to be seen.
        return False
    runs = int(ledger.fact("runs_since_full") or 0) + 1
    return (
        known is not None
        and runs < asked.full_every
        and ledger.fact("rule") == HASH_RULE
        and ledger.fact("form") == source.hash_form
        and known["covers"] in (BY_HASH, asked.covers)
        and ledger.count("points") == known["points"]
        and known["stamp"] == source.stamp()
    )


def scan_source(
    source: Source, ledger: Ledger, asked: ChangedBy, batch_size: int, *, bare: bool
) -> Scan:
    """Note in the temporary table ``seen`` what the source has.

    Parameters
    ----------
    bare
        Note points without a vector too, since the target can hold them so. If not, such a point is
        none, and what the target has of it has vanished.

    Raises
    ------
    InputError
        If the field that is named holds no time.
    UsageError
        If no point of the source has that field.
    """
    scanner = _Scanner(source, ledger, batch_size, bare)
    if is_as_noted(source, ledger, asked):
        scanner.as_noted()
        return by_stamp(ledger)
    if asked.field is not None:
        return _scan_by_field(scanner, ledger, asked, asked.field)
    stamp = source.stamp()
    if asked.by == BY_IDS:
        scanner.ids_alone()
        found = FoundBy(way=Way.IDS, not_compared=scanner.not_compared())
        return Scan(found, {}, stamp, asked.covers)
    scanner.contents(source.whole_batches(batch_size))
    return Scan(FoundBy(way=Way.HASH, read=scanner.read), {"runs_since_full": 0}, stamp)


def by_stamp(ledger: Ledger) -> Scan:
    """Return what came of a source that is as noted."""
    runs = int(ledger.fact("runs_since_full") or 0) + 1
    found = FoundBy(way=Way.STAMP, not_compared=ledger.count("points"))
    return Scan(found, {"runs_since_full": runs})


def _scan_by_field(scanner: _Scanner, ledger: Ledger, asked: ChangedBy, field: str) -> Scan:
    """Compare what a field tells to be late; all of the source if that does not do."""
    before, stamp = LatestSeen.of(ledger.fact("latest"), field), scanner.source.stamp()
    runs = int(ledger.fact("runs_since_full") or 0) + 1
    since = None if before is None else before.since(asked.overlap)
    if before is None:
        why = f"no run has read {field} before"
    elif since is None:
        why = f"{field} holds no times, and no run is as old as the overlap"
    elif runs >= asked.full_every:
        why = f"as every {asked.full_every} runs"
    elif ledger.fact("form") != scanner.source.hash_form:
        why = "hashes by another protocol, or by several, tell nothing"
    else:
        reading = FieldReading(field)
        told_by = scanner.late(reading, since)
        went_back = reading.latest is None or reading.latest < before.value
        if not went_back and reading.is_time <= before.is_time:
            found = FoundBy(
                way=Way.FIELD, field=field, told_by=told_by, since=before.text(since),
                read=scanner.read, not_compared=scanner.not_compared(),
            )  # fmt: skip
            facts = _facts(reading.to_keep(before, asked.overlap, at_once=bool(stamp)), runs)
            return Scan(found, facts, stamp, asked.covers)
        now = "nothing" if reading.latest is None else before.text(reading.latest)
        why = f"the latest {field} went back from {before.text(before.value)} to {now}"
        if reading.is_time and not before.is_time:
            why = f"{field} held numbers, and now it holds times"
        before = None
    reading = FieldReading(field)
    scanner.all_with(reading)
    if before is not None:
        # All have been read, so that nothing need be remembered of what the values are.
        before = before.model_copy(update={"is_time": False})
    found = FoundBy(way=Way.HASH, field=field, read=scanner.read, full=why)
    kept = reading.to_keep(before, asked.overlap, at_once=bool(stamp))
    return Scan(found, _facts(kept, 0), stamp)


def begin_by_field(source: Source, ledger: Ledger, asked: ChangedBy) -> None:
    """Note, before a source is read for the first time, from which value on it may change then.

    If its store tells no latest value, the next scan compares all points; so it does if points are
    known already, which may have changed before.
    """
    if asked.field is None or ledger.count("points"):
        return
    reading = FieldReading(asked.field)
    value = source.latest_value(asked.field)
    if value is not None:
        reading.saw(value)
    ledger.note(**_facts(reading.to_keep(None, asked.overlap, at_once=True), 0))


def _facts(latest: LatestSeen | None, runs: int) -> dict[str, Any]:
    """Return what the next run by the field is to know, by the names of the ledger's facts."""
    return {
        "latest": None if latest is None else latest.model_dump(mode="json"),
        "runs_since_full": runs,
    }


class _Scanner:
    """Reads a source into the table ``seen``.

    Attributes
    ----------
    source
        What is read.
    read
        Points whose contents were read.
    """

    def __init__(self, source: Source, ledger: Ledger, batch_size: int, bare: bool) -> None:
        self.source, self._ledger = source, ledger
        self._size, self._bare = batch_size, bare
        self.read = 0

    def as_noted(self) -> None:
        """Note what the ledger knows, as of a source that has not changed."""
        self._begin()
        query = "SELECT id, NULL, NULL, origin = ? FROM points"
        self._ledger.list_into("seen", query, Origin.BARE)

    def ids_alone(self) -> None:
        """Note ids, and nothing of the points."""
        self._begin()
        # A point without a vector is none if the target cannot hold it.
        having = self.source.holds_bare_points and not self._bare
        ids = self.source.ids_with_vector if having else self.source.ids
        for some in prefetch(ids(self._size)):
            self._saw(_known_by_id(some.tolist()))

    def contents(self, batches: Iterator[VectorBatch]) -> None:
        """Note the hashes of all points."""
        self._begin()
        for _, batch in self._with_vector(batches):
            self._saw(_hashed(batch))

    def all_with(self, reading: FieldReading) -> None:
        """Note the hashes of all points, and read the field of each."""

        def read(batches: Iterator[VectorBatch]) -> Iterator[VectorBatch]:
            for batch in batches:
                reading.values(batch)
                yield batch

        self.contents(read(self._all_having(reading.field)))

    def late(self, reading: FieldReading, since: float) -> str | None:
        """Note the hashes of points whose field is not before a value, or that have none.

        Of the other points the ids are noted. Returns what of the store told the two apart; None if
        all points were read.
        """
        source, field = self.source, reading.field
        found = source.changed_since(field, since, self._size)
        if found is not None:
            self.ids_alone()
        else:
            self._begin()
        batches = self._all_having(field) if found is None else found
        for whole, batch in self._with_vector(batches):
            values = reading.values(whole)[np.array(whole.each_count()) > 0]
            # At the very time of the latest, another may have been written after it was read.
            hashed = np.flatnonzero(~(values < since))
            rows = _known_by_id(batch.ids.tolist())
            for at, row in zip(hashed.tolist(), _hashed(batch.take(hashed)), strict=True):
                rows[at] = row
            self._saw(rows)
        return None if found is None else source.changes_told_by

    def not_compared(self) -> int:
        """Count the points known before of which the contents were not compared."""
        return self._ledger.count(
            "seen WHERE vector IS NULL AND NOT bare AND id IN (SELECT id FROM points)"
        )

    def _begin(self) -> None:
        self._ledger.make("seen", _SEEN)
        self.read = 0

    def _with_vector(
        self, batches: Iterator[VectorBatch]
    ) -> Iterator[tuple[VectorBatch, VectorBatch]]:
        """Yield each batch, and those of it that have a vector; note those that have none."""
        for whole in prefetch(batches):
            self.read += len(whole)
            if self._bare and whole.counts is not None:
                self._saw(_hashed(whole.take(whole.counts == 0)), bare=True)
            yield whole, whole.with_one_vector()

    def _all_having(self, field: str) -> Iterator[VectorBatch]:
        """Yield all points; raises :class:`UsageError` at their end if none has a field."""
        names: set[str] = set()
        read = 0
        for batch in self.source.whole_batches(self._size):
            read += len(batch)
            if field not in names:
                for payload in batch.each_payload():
                    names |= names_with_values(payload)
            yield batch
        if read and field not in names:
            described = self.source.describe()
            known = sorted(names.union(described.payload_fields) - {field})
            raise UsageError(
                f"no point of {described.uri} has the payload field {field!r}, by which no change "
                "would be noticed",
                remedy=f"Name the field with the time of change by --changed-by; there are: "
                f"{', '.join(known) or 'none'}. Or use --changed-by hash.",
            )

    def _saw(self, rows: list[_Row], *, bare: bool = False) -> None:
        self._ledger.fill("seen", ((*row, bare) for row in rows))


_Row = tuple[Any, int | None, int | None]


def _known_by_id(ids: list[Any]) -> list[_Row]:
    return [(stored(i), None, None) for i in ids]


def _hashed(batch: VectorBatch) -> list[_Row]:
    hashes = source_hashes(batch).tolist()
    keys = map(stored, batch.ids.tolist())
    return [(key, vector, payload) for key, (vector, payload) in zip(keys, hashes, strict=True)]
