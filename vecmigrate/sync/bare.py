"""Points of the source that have lost their vector, or never had one, at a target that holds such.

The point stays with what else it has, as a migration copies it, and the vector goes.
"""

from __future__ import annotations

import numpy as np

from vecmigrate.connector.source import Source, fetch_there, rows_by_id
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import same_payload, source_hashes, unmarked
from vecmigrate.state.ledger import HeldVectors, Ledger, LedgerRow, Origin
from vecmigrate.sync.changes import mark_of
from vecmigrate.sync.reconcile import Draft, Judged, same_extras


def bare_points(batch: VectorBatch) -> VectorBatch:
    """Return the points of a batch that have no vector."""
    none = np.zeros(len(batch), np.bool_) if batch.counts is None else batch.counts == 0
    return batch.take(none)


def judge_bare(
    batch: VectorBatch, target: Source, ledger: Ledger, *, overwrite: bool = False
) -> Judged:
    """Judge points of the source that have no vector, as :meth:`Judge.judge` does all others."""
    entries = [
        LedgerRow(i, v, p, Origin.BARE)
        for i, (v, p) in zip(batch.ids.tolist(), source_hashes(batch).tolist(), strict=True)
    ]
    none = np.empty((0, target.describe().dimension), np.float32)
    fields = list(unmarked(batch).each_payload())
    draft = Draft(batch, none, fields, entries, ledger.entries(batch.ids))
    interrupted, ulps = ledger.interrupted(batch.ids), target.payload_ulps()
    for found in fetch_there(target, batch.ids[ledger.there(batch.ids)]):
        counts, theirs = found.each_count(), found.each_payload()
        rows = rows_by_id(batch, found.ids).tolist()
        held = HeldVectors(found, target.rounding(), ulps=ulps)
        draft.there[rows] = True
        for at, row in enumerate(rows):
            before = draft.known[row]
            if not counts[at] and _same_rest(batch, row, found, at, ulps):
                draft.settle(row, held, at)
                continue
            if not (overwrite or held.is_as_written(interrupted, at)):
                marked = before is None and mark_of(theirs[at]) is not None
                if not (marked or held.are_ours(before, at)):
                    draft.leave(row, held, at)
    return draft.judged()


def _same_rest(batch: VectorBatch, row: int, found: VectorBatch, at: int, ulps: int) -> bool:
    """Tell whether the target's point has the payload and the other vectors of the source's."""
    return same_extras(batch, row, found, at) and same_payload(
        batch.each_payload()[row], found.each_payload()[at], ulps
    )
