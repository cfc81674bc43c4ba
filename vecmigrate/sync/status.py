"""How much of a collection is the new encoder's own, and whether it is in step."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vecmigrate.connector.addresses import canonical_place, followed_place, followed_uri
from vecmigrate.connector.registry import find_switcher, open_source
from vecmigrate.connector.source import Source
from vecmigrate.cutover.readers import readers_have
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.points.collection import (
    ENCODED,
    TRANSLATED,
    CollectionDescription,
    EncoderIdentity,
)
from vecmigrate.state.ledger import Ledger, Origin, ledger_path, open_ledger
from vecmigrate.sync.changes import mark_of
from vecmigrate.sync.views import OwnPoints
from vecmigrate.verification.records import VerificationLog


class Pending(BaseModel):
    """What the source has that the target lacks, told by ids alone.

    Attributes
    ----------
    left_out
        Points that a migration or sync left out, for want of a text or a usable vector; they are
        not among those that arrived.
    """

    model_config = ConfigDict(frozen=True)

    arrived: int
    vanished: int
    left_out: int = 0


class Verified(BaseModel):
    """The last verification."""

    model_config = ConfigDict(frozen=True)

    finished_at: str
    passed: bool
    changed_since: bool


class Status(BaseModel):
    """A collection's state.

    Attributes
    ----------
    translated, encoded
        Points of ours: mapped from old vectors; with the new encoder's own ones.
    other
        Points of others, or (if no sync was run) without a mark: they may be either.
    removed
        Points that a sync knows and somebody else has deleted at the target; in place, or has
        taken the vector from.
    without_vector
        Points that do not have the vector.
    in_place
        True if the vectors are on the source's own points.
    reembedded
        True if an encoder made all vectors, and no translator any.
    as_of
        If others wrote to the source while it was migrated: the time as of which the target was
        published, ISO 8601.
    last_sync
        What the last sync did, as it printed it; None if there was none.
    readers
        Names that lead here by cutovers.
    source_dropped
        True if ``drop-source`` has deleted what they had before.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    count: int
    translated: int
    encoded: int
    other: int
    removed: int
    without_vector: int = 0
    encoder: EncoderIdentity | None
    last_sync: dict[str, Any] | None
    in_place: bool = False
    reembedded: bool = False
    as_of: str | None = None
    pending: Pending | None
    verified: Verified | None
    readers: tuple[str, ...]
    source_dropped: bool = False

    @property
    def is_native(self) -> bool:
        """True if there are vectors and none is a translated one, and that is known."""
        known = self.encoded > 0 or self.last_sync is not None
        return known and self.translated == 0 and self.has_vectors

    @property
    def has_vectors(self) -> bool:
        """True if any point has the vector."""
        return self.count > self.without_vector


def status_of(
    target: str, state: Path, records: sqlite3.Connection, source: str | None = None
) -> Status:
    """Look at a collection and at what is recorded of it; changes nothing.

    Parameters
    ----------
    source
        If it is given, its ids are compared.

    Raises
    ------
    InputError, UsageError, UnreachableError
        From the stores.
    """
    with (
        open_source(target) as opened,
        open_ledger(ledger_path(state, target), keep=False) as ledger,
    ):
        described = opened.describe()
        described.require_finished()
        known = not ledger.is_new()
        translated, encoded, other = _by_ledger(opened, ledger) if known else _by_marks(opened)
        removed = 0
        if known:
            removed = ledger.count(
                "points WHERE origin != ? AND id NOT IN (SELECT id FROM there)",
                Origin.FOREIGN,
            )
        pending = None
        if source is not None:
            with open_source(source) as old:
                if described.in_place:
                    pending = _pending_in_place(old, opened, ledger)
                else:
                    pending = _pending(old, opened, ledger, known)
        kept = VerificationLog(records).latest(followed_place(target))
        verified = None
        if kept is not None:
            record = kept.verification
            verified = Verified(
                finished_at=record.finished_at,
                passed=record.passed,
                changed_since=opened.fingerprint() != record.target_fingerprint,
            )
        return Status(
            target=followed_uri(target),
            count=described.count,
            translated=translated,
            encoded=encoded,
            other=other,
            removed=removed,
            without_vector=described.without_vector,
            encoder=described.provenance.encoder if described.provenance else None,
            last_sync=ledger.fact("last"),
            in_place=described.in_place,
            reembedded=_is_reembedded(described),
            as_of=ledger.fact("as_of"),
            pending=pending,
            verified=verified,
            readers=_readers(target, records),
            source_dropped=_source_dropped(target, records),
        )


_BATCH = 8192


def _by_ledger(target: Source, ledger: Ledger) -> tuple[int, int, int]:
    ledger.collect_ids("there", target.ids(_BATCH))
    here = ledger.origins("id IN (SELECT id FROM there)")
    other = ledger.count(
        "there WHERE id NOT IN (SELECT id FROM points WHERE origin != ?)", Origin.FOREIGN
    )
    return here[Origin.TRANSLATED], here[Origin.ENCODED], other


def _by_marks(target: Source) -> tuple[int, int, int]:
    counted = {ENCODED: 0, TRANSLATED: 0, None: 0}
    for batch in target.batches(_BATCH):
        for payload in batch.each_payload():
            counted[mark_of(payload)] += 1
    return counted[TRANSLATED], counted[ENCODED], counted[None]


def _pending(source: Source, target: Source, ledger: Ledger, known: bool) -> Pending:
    ledger.collect_ids("seen", source.ids(_BATCH))
    if not known:
        ledger.collect_ids("there", target.ids(_BATCH))
    ours = "points" if known else "there"
    lacking = f"seen WHERE id NOT IN (SELECT id FROM {ours})"
    gone = f"{ours} WHERE id NOT IN (SELECT id FROM seen)"
    if known:
        gone += f" AND origin != {Origin.FOREIGN:d} AND id IN (SELECT id FROM there)"
    return Pending(
        arrived=ledger.count(f"{lacking} {_NOT_LEFT_OUT}"),
        vanished=ledger.count(gone) if known else 0,
        left_out=ledger.count(f"{lacking} {_LEFT_OUT}"),
    )


_LEFT_OUT = "AND id IN (SELECT id FROM left_out)"
_NOT_LEFT_OUT = "AND id NOT IN (SELECT id FROM left_out)"


def _pending_in_place(source: Source, target: Source, ledger: Ledger) -> Pending:
    """Tell by which points have the old vector, and which the new one."""
    ledger.collect_ids("seen", OwnPoints(source, ()).ids(_BATCH))
    ledger.collect_ids("there", target.ids(_BATCH))
    ours = "SELECT id FROM points WHERE origin != ?"
    lacking = "seen WHERE id NOT IN (SELECT id FROM there)"
    return Pending(
        arrived=ledger.count(f"{lacking} {_NOT_LEFT_OUT}"),
        left_out=ledger.count(f"{lacking} {_LEFT_OUT}"),
        vanished=ledger.count(
            f"there WHERE id NOT IN (SELECT id FROM seen) AND id IN ({ours})",
            Origin.FOREIGN,
        ),
    )


def _is_reembedded(described: CollectionDescription) -> bool:
    made = described.provenance
    return made is not None and made.encoder is not None and made.translator_sha256 is None


def _readers(target: str, records: sqlite3.Connection) -> tuple[str, ...]:
    if find_switcher(target) is None:
        return ()
    here, log = followed_place(target), CutoverLog(records)
    led = dict.fromkeys(entry.name for entry in log.leading_to(here))
    return tuple(
        name for name in led if (have := readers_have(log, name)) and canonical_place(have) == here
    )


def _source_dropped(target: str, records: sqlite3.Connection) -> bool:
    entries = CutoverLog(records).leading_to(followed_place(target))
    return bool(entries) and entries[0].dropped_at is not None
