"""Points of the source that have lost their vector, or never had one, at a target that holds such.

The point stays with what else it has, as a migration copies it, and the vector goes.
"""

from __future__ import annotations

import numpy as np

from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.checksums import same_payload, target_hashes
from vecmigrate.state.ledger import Ledger, LedgerRow, Origin
from vecmigrate.sync.changes import bare_hashes, mark_of
from vecmigrate.sync.reconcile import Judged, note_payloads
from vecmigrate.verification.vectors import alike


def bare_points(batch: VectorBatch) -> VectorBatch:
    """Return the points of a batch that have no vector."""
    none = np.zeros(len(batch), np.bool_) if batch.counts is None else batch.counts == 0
    return batch.take(none)


def judge_bare(batch: VectorBatch, target: Source, ledger: Ledger) -> Judged:
    """Judge points of the source that have no vector, as :meth:`Judge.judge` does all others."""
    vectors, payloads = bare_hashes(batch)
    entries = [
        LedgerRow(i, v, p, Origin.BARE)
        for i, v, p in zip(batch.ids.tolist(), vectors, payloads, strict=True)
    ]
    rows = {entry.id: row for row, entry in enumerate(entries)}
    known = ledger.entries(batch.ids)
    interrupted = ledger.interrupted(batch.ids)
    write = np.ones(len(batch), np.bool_)
    settled: list[LedgerRow] = []
    foreign = there = 0
    for found in _found(target, batch.ids, ledger):
        counts = found.each_count()
        marks = [mark_of(payload) for payload in found.each_payload()]
        for at, now in enumerate(target_hashes(found)):
            row = rows[found.ids[at : at + 1].tolist()[0]]
            entry, before = entries[row], known[row]
            there += 1
            if not counts[at] and _same_rest(batch, row, found, at, target.payload_ulps()):
                entry.target = now
            elif entry.id in interrupted or _is_ours(before, now, marks[at]):
                continue
            else:
                entry.origin, entry.target = Origin.FOREIGN, now
                foreign += 1
            settled.append(entry)
            write[row] = False
    intended = [entry for entry, wanted in zip(entries, write.tolist(), strict=True) if wanted]
    if not intended:
        return Judged(None, [], settled, 0, foreign)
    none = np.empty((0, target.describe().dimension), np.float32)
    writes = batch.take(write).with_vectors(none)
    note_payloads(writes, intended)
    return Judged(writes, intended, settled, len(intended) - (there - len(settled)), foreign)


def _found(target: Source, ids: IdArray, ledger: Ledger) -> list[VectorBatch]:
    return fetch_there(target, ids[ledger.there(ids)])


def _is_ours(before: LedgerRow | None, now: int, mark: str | None) -> bool:
    if before is None:
        return mark is not None
    return before.origin is not Origin.FOREIGN and before.target == now


def _same_rest(batch: VectorBatch, row: int, found: VectorBatch, at: int, ulps: int) -> bool:
    """Tell whether the target's point has the payload and the other vectors of the source's."""
    if batch.extras is not None and found.extras is not None:
        same = alike(batch.extras[row], found.extras[at])
    else:
        same = True
    return same and same_payload(batch.each_payload()[row], found.each_payload()[at], ulps)
