"""Tells what arrived, changed or vanished in a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, InstanceOf

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import IdArray
from vecmigrate.points.checksums import IdFingerprint, source_hashes
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, TRANSLATED
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state.ledger import HeldVectors, Ledger, Origin, stored
from vecmigrate.state.scan import (
    ARRIVING,
    BARE,
    CHANGED,
    IS_BARE,
    ChangedBy,
    Scan,
    by_stamp,
    is_as_noted,
    scan_source,
)

_THERE = "(id PRIMARY KEY, mark TEXT) WITHOUT ROWID"

_LACKING = f"   OR (NOT {IS_BARE} AND seen.id NOT IN (SELECT id FROM there))"
_BARE_LACKING = f"   OR ({IS_BARE} AND seen.id NOT IN (SELECT id FROM there))"
_NOT_DELETED = (
    "AND (seen.id IN (SELECT id FROM there) OR seen.id NOT IN (SELECT id FROM points)"
    f"     OR seen.id IN (SELECT id FROM writing WHERE origin = {Origin.DELETED:d}))"
)
_ANOTHERS = (
    f"   OR (NOT bare AND points.origin = {Origin.FOREIGN:d})"
    "   OR (NOT bare AND seen.id IN (SELECT id FROM rewritten))"
)
_VANISHED = """
SELECT id FROM (SELECT id FROM points UNION SELECT id FROM writing
                UNION SELECT id FROM there WHERE mark IS NOT NULL)
WHERE id NOT IN (SELECT id FROM seen)
"""
_NOT_SEEN = "SELECT id FROM there WHERE id NOT IN (SELECT id FROM seen)"
_STRANGERS = """
SELECT id FROM there
WHERE mark IS NULL AND id NOT IN (SELECT id FROM seen)
AND id NOT IN (SELECT id FROM points) AND id NOT IN (SELECT id FROM writing)
"""
_UNKNOWN = """
SELECT id FROM arriving WHERE id IN (SELECT id FROM there)
UNION ALL SELECT id FROM changed WHERE id IN (SELECT id FROM there)
AND id IN (SELECT id FROM points WHERE vector IS NULL)
"""


class Changes(BaseModel):
    """What a sync would do.

    Attributes
    ----------
    arrived, changed, vanished
        Points of the source that the target lacks; that differ from when they were last brought
        in step; and of ours at the target that the source lacks.
    unknown
        Points of the source at the target of which the ledger has nothing, or not from what they
        were made: each is compared.
    strangers
        Points at the target that neither the ledger, nor a mark, nor the source knows.
    ours
        Points at the target that the ledger knows or a mark shows to be ours; all of them with
        ``overwrite``.
    scan
        How that was found, and what the ledger is to note of it once it is done.
    target_as
        What tells that the target is as it was when it was looked at; None if nothing does.
    marked
        True where points at the target say where their vectors come from.
    encoded_marks
        True if the ledger is new and some say that the new encoder made theirs.
    """

    arrived: int
    changed: int
    vanished: int
    unknown: int
    strangers: int
    ours: int
    scan: InstanceOf[Scan]
    target_as: str | None = None
    marked: bool = False
    encoded_marks: bool = False


def find_changes(
    source: Source,
    target: Source,
    ledger: Ledger,
    asked: ChangedBy,
    batch_size: int,
    *,
    lacking: bool = False,
    overwrite: bool = False,
) -> Changes:
    """Read the source, and the target's ids, and compare both with the ledger.

    The ids wait in temporary tables of SQLite's, on disk if they are many.

    Parameters
    ----------
    lacking
        Points that are known and that the target lacks have changed, too. If not, others have
        deleted them, and they are not brought back, whatever the source has.
    overwrite
        Points of others have changed, too, or vanished if the source does not have them. To find
        points of ours that others have written again, all of the target is read.

    Raises
    ------
    InputError
        If that field holds no time.
    UsageError
        If no point of the source has that field.
    """
    target_as = None if overwrite else _target_as(target, lacking)
    if not overwrite and is_as_noted(source, ledger, asked) and not ledger.was_interrupted():
        left = target_as is not None and ledger.fact("target_as") == target_as
        if left or _holds_what_is_known(target, ledger, batch_size):
            return _nothing(ledger, target_as)
    ledger.make("there", _THERE)
    bare = target.holds_bare_points
    scan = scan_source(source, ledger, asked, batch_size, bare=bare)
    _scan_target(target, ledger, batch_size)
    if overwrite:
        _note_rewritten(target, ledger, batch_size)
    changed = CHANGED + (_LACKING if lacking else _NOT_DELETED) + _ANOTHERS * overwrite
    gone = f"{_VANISHED} UNION {_NOT_SEEN}" if overwrite else _VANISHED
    without = f"{BARE} {_BARE_LACKING}" if lacking else f"{BARE} {_NOT_DELETED}"
    queries = {"arriving": ARRIVING, "changed": changed, "bare": without, "gone": gone}
    for name, query in {**queries, "unknown": _UNKNOWN, "strangers": _STRANGERS}.items():
        ledger.list_ids(name, query)
    count = ledger.count
    # Written where nothing is, each is an arrival to the run as well.
    lost = count("changed WHERE id NOT IN (SELECT id FROM there)")
    bare_arrived = count("bare WHERE id NOT IN (SELECT id FROM there)")
    bare_unknown = count("bare WHERE id NOT IN (SELECT id FROM points)") - bare_arrived
    compared = count("unknown")
    to_bring = count("arriving") + count("changed") - compared - lost
    new = count("arriving WHERE id NOT IN (SELECT id FROM there)")
    foreign = f"SELECT id FROM points WHERE origin = {Origin.FOREIGN:d}"
    kept = "" if overwrite else f"AND id NOT IN ({foreign})"
    return Changes(
        arrived=new + lost + bare_arrived,
        changed=to_bring - new + count("bare") - bare_arrived - bare_unknown,
        vanished=count(f"gone WHERE id IN (SELECT id FROM there) {kept}"),
        unknown=compared + bare_unknown,
        strangers=count("strangers"),
        ours=count("there")
        if overwrite
        else count(
            "(SELECT id FROM points WHERE origin != ? "
            "UNION SELECT id FROM there WHERE mark IS NOT NULL)",
            Origin.FOREIGN,
        ),
        scan=scan,
        target_as=target_as,
        marked=count("there WHERE mark IS NOT NULL") > 0 or bool(ledger.fact("marked")),
        encoded_marks=count("there WHERE mark = ?", ENCODED) > 0,
    )


def _target_as(target: Source, lacking: bool) -> str | None:
    """Return what tells that a target has the points that a run of this kind left there."""
    stamp = target.stamp()
    return None if stamp is None else f"{stamp} {lacking}"


def _holds_what_is_known(target: Source, ledger: Ledger, batch_size: int) -> bool:
    """Tell whether a target has the points that the ledger knows, and no others, by their ids."""
    if ledger.count("(SELECT 1 FROM points WHERE vector IS NULL LIMIT 1)"):
        return False
    there = IdFingerprint()
    for ids in target.ids(batch_size):
        there.add(ids)
    return there == ledger.fingerprint()


def _nothing(ledger: Ledger, target_as: str | None) -> Changes:
    """Return that nothing is to be done: source and target are as the last run left them."""
    for table in ("arriving", "changed", "bare", "gone", "unknown", "strangers"):
        ledger.list_ids(table, "SELECT NULL WHERE 0")
    marked = bool(ledger.fact("marked"))
    return Changes(
        arrived=0, changed=0, vanished=0, unknown=0, strangers=0, ours=0,
        scan=by_stamp(ledger), target_as=target_as, marked=marked,
    )  # fmt: skip


def _scan_target(target: Source, ledger: Ledger, batch_size: int) -> None:
    """Note the target's ids; if the ledger is new, with the marks that show what is ours."""
    for ids, marks in _marked(target, ledger.is_new(), batch_size):
        keys = map(stored, ids.tolist())
        ledger.fill("there", zip(keys, marks or [None] * len(ids), strict=True), keep=True)


def _note_rewritten(target: Source, ledger: Ledger, batch_size: int) -> None:
    """Note in the temporary table ``rewritten`` what the target has otherwise than is known."""
    ledger.make("rewritten")
    # Of another form, the hashes of equal payloads differ.
    comparable = ledger.fact("form") == target.hash_form
    for whole in prefetch(target.whole_batches(batch_size)):
        held = HeldVectors(whole, target.rounding())
        payloads = source_hashes(whole)[:, 1].tolist()
        rows = zip(whole.ids.tolist(), ledger.entries(whole.ids), payloads, strict=True)
        ledger.fill(
            "rewritten",
            (
                (stored(point),)
                for at, (point, entry, payload) in enumerate(rows)
                if entry is not None
                and not (held.are_as(entry, at) and (entry.payload == payload or not comparable))
            ),
        )


def _marked(
    target: Source, marks: bool, batch_size: int
) -> Iterator[tuple[IdArray, list[str | None] | None]]:
    """Yield ids with their marks, without if these are not wanted, or there can be none.

    Points without a vector come last, among ids that have come before.
    """
    if not marks:
        yield from ((ids, None) for ids in prefetch(target.ids(batch_size)))
        return
    read = 0
    for batch in prefetch(target.batches(batch_size)):
        read += len(batch)
        yield batch.ids, [mark_of(payload) for payload in batch.each_payload()]
    described = target.describe()
    if target.holds_bare_points and not (described.count_is_exact and read == described.count):
        yield from ((ids, None) for ids in target.ids(batch_size))


def mark_of(payload: Any) -> str | None:
    """Return a point's origin as its payload tells it, or None."""
    mark = payload.get(ORIGIN_FIELD)
    return mark if mark in (ENCODED, TRANSLATED) else None
