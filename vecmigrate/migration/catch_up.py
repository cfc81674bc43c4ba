"""Brings what changed at a source while it was read, before the target is published."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vecmigrate.connector.protocols import UpdatableConnector
from vecmigrate.connector.registry import connector_of, open_source, open_updater
from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.errors import VerificationError
from vecmigrate.migration.engines import Conversion
from vecmigrate.migration.progress import Progress
from vecmigrate.migration.translate import convert
from vecmigrate.migration.write import Pace, Writing
from vecmigrate.points.batch import IdArray
from vecmigrate.points.collection import Provenance
from vecmigrate.points.screening import Absent, screen
from vecmigrate.runtime.settling import Settling
from vecmigrate.state.ledger import Ledger
from vecmigrate.state.scan import ARRIVING, BARE, CHANGED, ChangedBy, FoundBy, scan_source

_GONE = "SELECT id FROM points WHERE id NOT IN (SELECT id FROM seen)"
_STRAYS = "SELECT id FROM there WHERE id NOT IN (SELECT id FROM points)"


@dataclass(frozen=True, slots=True)
class Pass:
    """One reading of the source after the first.

    Attributes
    ----------
    as_of
        When it began, ISO 8601: the target then is as the source was at that time, or later.
    form
        See :attr:`Source.hash_form`; None if points were not compared that were noted by another.
    points, changes
        Points of the source, and those among them or among the target's that were brought.
    seconds
        What it took.
    found_by
        How the changes were found.
    """

    as_of: str
    form: str | None
    points: int
    changes: int
    seconds: float
    found_by: FoundBy


@dataclass
class CatchUp:
    """Reads the source again, and brings what is not as the ledger knows it, until little is left.

    Parameters
    ----------
    work, writing
        As in the first reading. The source is opened anew for each pass, since an open one may go
        on to show what it was.
    settle
        The share of the points up to which what a pass found is little, as are 100 points.
    finding
        How a pass finds what changed.
    stop
        True ends it.
    """

    work: Conversion
    writing: Writing
    ledger: Ledger
    progress: Progress
    pace: Pace
    settle: float
    finding: ChangedBy
    stop: Callable[[], bool]

    _gone: int = field(default=0, init=False)
    """Points that vanished, which wait until the target can be updated."""

    def __post_init__(self) -> None:
        self._uri = self.work.source.describe().uri
        self._sink = self.writing.sink

    def settled(self) -> Pass:
        """Make passes until one finds little, brings that too, and return that one.

        Raises
        ------
        UnsettledError
            If a pass finds no fewer changes than the one before; what was written is kept.
        TerminatedError
            If ``stop`` said so.
        """
        settling = Settling(self._uri, self.settle, "What was written is kept")
        # What is noted in the ledger from here on is written to its disk.
        self.progress.checkpoint(self._sink)
        while True:
            done = self._pass()
            how = f"; {done.found_by.line()}" if self.finding.field else ""
            self.work.announce(
                f"catching up: {done.changes:,} of {done.points:,} points had changed "
                f"({done.seconds:,.1f} s{how})"
            )
            # What changed during that pass alone is missing then.
            if settling.is_settled(done.changes, done.points, done.seconds):
                self.ledger.note(as_of=done.as_of, form=done.form)
                return done

    def _pass(self) -> Pass:
        as_of, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        ledger, size = self.ledger, self.work.batch_size
        changes = 0
        with open_source(self._uri) as source:
            bare = self._sink.absent is Absent.WRITTEN
            scan = scan_source(source, ledger, self.finding, size, bare=bare)
            form: str | None = source.hash_form
            if scan.found_by.not_compared and ledger.fact("form") != form:
                form = None
            listed = {"arriving": ARRIVING, "changed": CHANGED, "gone": _GONE}
            if bare:
                listed["bare"] = BARE
            for table, query in listed.items():
                ledger.list_ids(table, query)
            for table in [table for table in listed if table != "gone"]:
                for ids in ledger.listed(table, size):
                    changes += self._bring(source, ids)
        changes += self._delete()
        points = ledger.count("seen")
        # Only what is durable need not be found again.
        self.progress.checkpoint(self._sink)
        if not self.work.skipped:
            scan.note(ledger)
        seconds = max(time.perf_counter() - begun, 1e-9)
        return Pass(as_of, form, points, changes, seconds, scan.found_by)

    def _bring(self, source: Source, ids: IdArray) -> int:
        """Write points as the source has them now; return how many the target took."""
        found = screen(
            fetch_there(source, ids),
            self._uri,
            self.work.on_bad_vector,
            self.work.skipped,
            absent=self._sink.absent,
        )
        written = 0
        for part in self.writing.write(convert(found, self.work.converter)):
            self.progress.wrote_again(self._sink, part, self.work.skipped)
            written += part.ids.count
            self.pace.passed(part.read)
            if self.stop():
                raise self.progress.stopped(self._sink)
        return written

    def _delete(self) -> int:
        """Delete what vanished, or leave that for later; return how many points are new to that."""
        gone = self.ledger.count("gone")
        if not self._sink.deletes:
            self._check_can_delete(gone)
            self._gone, before = gone, self._gone
            return max(0, gone - before)
        for ids in self.ledger.listed("gone", self.work.batch_size):
            self._sink.delete(ids)
            # First the data, then what is known of it: a kill between the two deletes again.
            self.progress.checkpoint(self._sink)
            self.ledger.forget(ids.tolist())
        return gone

    def _check_can_delete(self, gone: int) -> None:
        target = self.writing.target
        if gone and not isinstance(connector_of(target)[0], UpdatableConnector):
            raise VerificationError(
                f"{gone:,} points vanished from {self._uri} while it was read, and nothing can "
                f"be deleted from {target}",
                remedy="Nothing was published. Keep the source still and run again.",
            )

    def delete_later(self, target: str, provenance: Provenance) -> None:
        """Delete at a published target what vanished, if its sink could not."""
        if self.ledger.fact("was_lost"):
            self._list_strays(target)
        if not self._gone:
            return
        with open_updater(target, provenance) as updater:
            for ids in self.ledger.listed("gone", self.work.batch_size):
                updater.delete(ids)
            updater.finish()
        for ids in self.ledger.listed("gone", self.work.batch_size):
            self.ledger.forget(ids.tolist())

    def _list_strays(self, target: str) -> None:
        """List as vanished what the target has and the ledger, which was lost, does not know."""
        with open_source(target) as reader:
            self.ledger.collect_ids("there", reader.ids(self.work.batch_size))
        self.ledger.list_ids("gone", f"{_GONE} UNION {_STRAYS}")
        self._gone = self.ledger.count("gone")
        self._check_can_delete(self._gone)
        self.ledger.note(was_lost=None)
