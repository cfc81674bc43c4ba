"""Points at a target that others wrote, found before anything is written there."""

from __future__ import annotations

from collections.abc import Sequence

from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import IdArray, PointId, id_array
from vecmigrate.points.ids import name_some
from vecmigrate.state.ledger import HeldVectors, Ledger, LedgerRow, Origin
from vecmigrate.sync.reconcile import Judge

SHOWN = 10
"""Ids that an error names."""


def others_wrote(target: str, count: int, some: Sequence[PointId]) -> MismatchError:
    """Return the error for points that others wrote, if nobody said what is to become of them."""
    return MismatchError(
        f"{count:,} points of {target} are not as vecmigrate wrote them, or it never wrote them: "
        f"{name_some(some[:SHOWN])}",
        remedy="If others write there too, add --shared-target, which leaves their points alone; "
        "if not, --overwrite makes these points what the source has.",
    )


def rewritten(
    ids: IdArray, source: Source, target: Source, ledger: Ledger, judge: Judge
) -> list[PointId]:
    """Return those points that others have written at the target since the ledger knew them.

    What is there already as the source has it now is none of these.
    """
    known = dict(zip(ids.tolist(), ledger.entries(ids), strict=True))
    interrupted = ledger.interrupted(ids)
    suspects: list[PointId] = []
    for found in fetch_there(target, ids[ledger.there(ids)]):
        held = HeldVectors(found, target.rounding(), ulps=target.payload_ulps())
        suspects += [
            point
            for at, point in enumerate(found.ids.tolist())
            if not held.is_as_written(interrupted, at)
            and _tells_vector(known[point])
            and not held.are_as(known[point], at)
        ]
    if not suspects:
        return []
    fine: set[PointId] = set()
    for whole in fetch_there(source, id_array(suspects)):
        batch = whole.with_one_vector()
        if len(batch):
            judged = judge.judge(batch)
            fine.update(row.id for row in (*judged.intended, *judged.settled))
    return [point for point in suspects if point not in fine]


def _tells_vector(entry: LedgerRow | None) -> bool:
    """True if the ledger knows the vector of a point of ours."""
    if entry is None or entry.origin is Origin.FOREIGN:
        return False
    return entry.target is not None or entry.sketch is not None
