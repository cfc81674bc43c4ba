"""What a sync is asked for, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vecmigrate.points.batch import PointId
from vecmigrate.points.screening import OnBadVector


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How a sync goes about it.

    Parameters
    ----------
    changed_by
        ``hash`` compares contents, ``ids`` tells arrivals and disappearances only; else the payload
        field with a point's time of change.
    keep_anchors
        The anchor file that the target was migrated with, if it was.
    max_vanished
        Share of the points known as ours that may vanish in one run.
    adopt
        Take unmarked points of the target that differ for older translations.
    source_moved
        The source is not where it was when the target was written.
    reembed
        Budget of re-embedding, as ``500`` or ``20000 tokens``; None for none.
    encoder
        Name of the new encoder, for that.
    queries
        Recent queries, for that.
    dry_run
        Compare and change nothing.
    stop
        Asked after each batch; True ends the run.
    announce, progress
        Called with a line for a person; with the number of points just handled.
    """

    changed_by: str = "hash"
    keep_anchors: Path | None = None
    on_bad_vector: OnBadVector = OnBadVector.FAIL
    batch_size: int = 4096
    max_vanished: float = 0.5
    adopt: bool = False
    source_moved: bool = False
    reembed: str | None = None
    encoder: str | None = None
    queries: Path | None = None
    dry_run: bool = False
    stop: Callable[[], bool] = lambda: False
    announce: Callable[[str], None] = lambda line: None
    progress: Callable[[int], None] = lambda count: None


class SyncResult(BaseModel):
    """What a sync did, or would do.

    Attributes
    ----------
    arrived, changed, vanished
        Points written that were not there, written over, and deleted.
    adopted
        Points that were at the target already as they should be, and are known as ours now.
    left_alone
        Points of the source that somebody else has written at the target.
    skipped_ids
        Points left out for a bad vector.
    passed_over
        Points that others deleted, or took the vector from, while it was written in place; the
        next sync looks at them.
    reembedded
        Points that got the new encoder's own vector.
    compared
        With ``dry_run``: points at the target that the ledger does not know, to be compared.
    translated, encoded
        Points of ours at the target after the run.
    count
        Points at the target after the run, others' included.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    target: str
    arrived: int = 0
    changed: int = 0
    vanished: int = 0
    adopted: int = 0
    left_alone: int = 0
    skipped_ids: tuple[PointId, ...] = ()
    passed_over: int = 0
    reembedded: int = 0
    compared: int = 0
    translated: int = 0
    encoded: int = 0
    count: int = 0
    dry_run: bool = False
    finished_at: str
    seconds: float

    @property
    def wrote(self) -> int:
        """Points of the target that were changed."""
        return self.arrived + self.changed + self.vanished + self.reembedded

    def counts(self) -> dict[str, int]:
        """Return the points by what was done with them, as a record of the run keeps it."""
        return {
            "arrived": self.arrived,
            "changed": self.changed,
            "vanished": self.vanished,
            "reembedded": self.reembedded,
            "left_alone": self.left_alone,
            "skipped": len(self.skipped_ids),
        }
