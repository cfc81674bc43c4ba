"""Points that a live pair's writers changed: at the source since it was read, or at the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.addresses import followed_place
from vecmigrate.connector.source import Source
from vecmigrate.migration.reembed import LEFT_OUT
from vecmigrate.points.batch import IdArray, VectorBatch, row_norms
from vecmigrate.points.checksums import Tally, source_hashes
from vecmigrate.points.screening import OnBadVector, Skipped, screen
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state.ledger import (
    HASH_RULE,
    HeldVectors,
    Ledger,
    Origin,
    ledger_path,
    open_ledger,
)
from vecmigrate.verification.records import Check, CheckResult
from vecmigrate.verification.vectors import unknown_vectors

_GONE = f"""
SELECT id FROM points WHERE origin NOT IN ({Origin.BARE:d}, {Origin.FOREIGN:d})
AND id NOT IN (SELECT id FROM met)
"""


_DELETED = "SELECT id FROM points WHERE id NOT IN (SELECT id FROM there)"


class Pending:
    """What the ledger says was read of the source, beside what the source holds now.

    Attributes
    ----------
    shared
        True if others write to the target too: :meth:`note_native` then comes first.
    arrived, changed, vanished
        Points that the next sync is to bring; they are left out of every other check.
    passed_by
        Points of the source that others wrote or deleted at the target: none of these is compared.
    left_out
        Points of the source that the target did not get, for want of a text or a usable vector.
    native, deleted
        Points that others wrote at the target, and those that they deleted there; of
        neither is more compared than that they are there, or not.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.make("met")
        ledger.make("pending")
        self.shared = bool(ledger.fact("shared") or ledger.fact("led"))
        self.passed_by = Tally()
        self._compares = False
        self.arrived = self.changed = self.vanished = self.native = self.deleted = 0
        self.left_out = 0

    def note_native(self, source: Source, target: Source, batch_size: int) -> None:
        """Read the target, and note what others wrote and deleted there."""
        ledger = self._ledger
        payloads = ledger.tells_payloads(source, target)
        ledger.make("there")
        for whole in prefetch(target.whole_batches(batch_size)):
            held = HeldVectors(
                whole, target.rounding(), payloads=payloads, ulps=target.payload_ulps()
            )
            ledger.add_ids("there", whole.ids, keep=True)
            self._note(whole.ids[~held.which_are_ours(ledger.entries(whole.ids))])
        self.native = ledger.count("pending")
        ledger.list_ids("deleted", _DELETED)
        self.deleted = ledger.count("deleted")
        for ids in ledger.listed("deleted", batch_size):
            self._note(ids)

    def as_read(
        self, batches: Iterable[VectorBatch], source: str, text_field: str | None = None
    ) -> Iterator[VectorBatch]:
        """Yield points of the source that are as they were read; note all others.

        Parameters
        ----------
        text_field
            Payload field without which a point was left out; None if none is needed.
        """
        for batch in batches:
            self._ledger.add_ids("met", batch.ids, keep=True)
            if self.native or self.deleted:
                theirs = self._ledger.among("pending", batch.ids)
                for good in screen([batch.take(theirs)], source, OnBadVector.SKIP, Skipped()):
                    self.passed_by.add(good)
                batch = batch.take(~theirs)
            same, known = self._compared(batch)
            left_out = self._left_out(batch.take(~known), text_field)
            self.arrived += int((~known).sum()) - left_out
            self.left_out += left_out
            self.changed += int((known & ~same).sum())
            self._note(batch.ids[~same])
            if same.any():
                self._compares = True
                yield batch if same.all() else batch.take(same)

    def all_read(self) -> None:
        """Take note that the source has been read: what was not met has vanished."""
        self._ledger.list_ids("unmet", f"{_GONE} AND id NOT IN (SELECT id FROM pending)")
        self.vanished = self._ledger.count("unmet")
        for ids in self._ledger.listed("unmet", 8192):
            self._note(ids)

    def settled(self, batches: Iterable[VectorBatch]) -> Iterator[VectorBatch]:
        """Yield points of either collection that are not pending."""
        for batch in batches:
            kept = ~self._ledger.among("pending", batch.ids)
            if kept.any():
                yield batch if kept.all() else batch.take(kept)

    def check(self, most: float, *, skips: bool) -> Check:
        """Return how many points are pending; more than the share ``most`` fail it.

        Parameters
        ----------
        skips
            False if points that were left out fail it, too.
        """
        count = self.arrived + self.changed + self.vanished
        total = self._ledger.count("met") + self.vanished
        if self.left_out and not skips:
            summary = (
                f"{self.left_out:,} {LEFT_OUT} were left out, which --on-missing-text skip or "
                "--on-bad-vector skip expects"
            )
            return Check.of("pending", False, summary, pending=count, left_out=self.left_out)
        if not count:
            return Check.of("pending", True, "the source is as it was read", pending=0)
        summary = (
            f"{count:,} of {total:,} points changed at the source since ({self.arrived:,} arrived, "
            f"{self.changed:,} changed, {self.vanished:,} vanished): sync brings them"
        )
        allowed = count <= most * total
        return Check(
            name="pending",
            outcome=CheckResult.WARNING if allowed else CheckResult.FAILED,
            summary=summary if allowed else f"{summary}; at most {most:.1%} may be (--max-pending)",
            figures={
                "pending": count,
                "arrived": self.arrived,
                "changed": self.changed,
                "vanished": self.vanished,
                "share": count / total,
            },
        )

    def check_native(self) -> Check:
        """Return how many points are others'."""
        summary = "nobody else has written there"
        if self.native or self.deleted:
            summary = (
                f"{self.native:,} points are others' own and {self.deleted:,} were deleted by "
                "others: nothing more of these is compared"
            )
            if not self._compares:
                summary += ". None is left that is ours: nothing was verified"
        return Check(
            name="native",
            outcome=CheckResult.PASSED if self._compares else CheckResult.WARNING,
            summary=summary,
            figures={"native": self.native, "deleted": self.deleted},
        )

    def _compared(self, batch: VectorBatch) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which points are as they were read, and which are known at all."""
        entries = self._ledger.entries(batch.ids)
        now = source_hashes(batch).tolist()
        same = [
            entry is not None and [entry.vector, entry.payload] == found
            for entry, found in zip(entries, now, strict=True)
        ]
        known = [entry is not None for entry in entries]
        return np.array(same, np.bool_), np.array(known, np.bool_)

    def _left_out(self, batch: VectorBatch, text_field: str | None) -> int:
        """Count those among points that are as they were when they were left out."""
        noted = self._ledger.left_out(batch.ids) if len(batch) else {}
        if not noted:
            return 0
        texts = batch.texts(text_field) or [None] * len(batch)
        usable = np.array(batch.each_count()) > 0
        norms = row_norms(batch.vectors)
        np.logical_and.at(usable, batch.owners(), np.isfinite(norms) & (norms > 0))
        count = 0
        for row, (point, now) in enumerate(
            zip(batch.ids.tolist(), source_hashes(batch).tolist(), strict=True)
        ):
            then = noted.get(point)
            # Where nobody has noted what was read, what is there now has to tell why.
            unusable = not usable[row] or (text_field is not None and texts[row] is None)
            count += then is not None and (list(then) == now or (None in then and unusable))
        return count

    def _note(self, ids: IdArray) -> None:
        self._ledger.add_ids("pending", ids)


@contextmanager
def pending_of(source: Source, target: Source, state: Path | None) -> Iterator[Pending | None]:
    """Open the ledger of a target; None if it does not tell what was read of this source."""
    ours, theirs = source.describe(), target.describe()
    if state is None or ours.multivector or unknown_vectors(ours, theirs):
        yield None
        return
    with open_ledger(ledger_path(state, theirs.uri), keep=False) as ledger:
        tells = (
            ledger.fact("source") == followed_place(ours.uri)
            and ledger.fact("rule") == HASH_RULE
            and ledger.fact("form") == source.hash_form
            and not ledger.was_interrupted()
            and not ledger.count("(SELECT 1 FROM points WHERE vector IS NULL LIMIT 1)")
            and not ledger.is_new()
        )
        yield Pending(ledger) if tells else None
