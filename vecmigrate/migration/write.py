"""Writing translated batches, and what is said of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors.keeper import AnchorKeeper, marked
from vecmigrate.connector.sink import Sink
from vecmigrate.migration.dead_letters import PointWriter
from vecmigrate.migration.translate import StageSeconds
from vecmigrate.points.batch import PointId, VectorBatch
from vecmigrate.points.checksums import IdFingerprint, sketches, unmarked
from vecmigrate.points.collection import TargetSpec
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state.ledger import MovedPoints, Origin

_SLICE = 0.2
"""Seconds slept at a time, so that a run that is asked to end does so soon."""


class Pace:
    """Lets so many points a second pass, on average; time lost elsewhere is not made up for.

    Parameters
    ----------
    rate
        Points a second; None for no bound.
    stop
        Asked while waiting; True ends the wait.
    """

    def __init__(self, rate: float | None, stop: Callable[[], bool] = lambda: False) -> None:
        self._rate = rate
        self._stop = stop
        self._due = time.monotonic()

    def batch_size(self, wanted: int) -> int:
        """Return ``wanted``, or fewer: a batch is to be no more than a second's points."""
        return wanted if self._rate is None else max(1, min(wanted, int(self._rate)))

    def passed(self, count: int) -> None:
        """Wait until points that come after these ``count`` may pass."""
        if self._rate is None:
            return
        self._due = max(self._due, time.monotonic() - count / self._rate) + count / self._rate
        while (left := self._due - time.monotonic()) > 0 and not self._stop():
            time.sleep(min(left, _SLICE))


@dataclass(frozen=True, slots=True)
class Written:
    """Points that were written together.

    Attributes
    ----------
    read
        How many there were, those included that the store refused.
    ids
        Of those that it took.
    kept_anchors
        How many of them that are ours have the new encoder's own vector, as anchors have.
    cursor
        Where the source goes on after them.
    moved
        What a ledger is to know of them; None if none is kept.
    """

    read: int
    ids: IdFingerprint
    kept_anchors: int
    cursor: str | None
    moved: MovedPoints | None = None


@dataclass(frozen=True, slots=True)
class Writing:
    """A target that is being written.

    Attributes
    ----------
    paced
        True if the rate is bounded, so that one process has to write all.
    stages
        Gathers the time that writing takes in this process.
    """

    sink: Sink
    target: str
    spec: TargetSpec
    writer: PointWriter
    keeper: AnchorKeeper | None
    paced: bool = False
    stages: StageSeconds = field(default_factory=StageSeconds)

    def joint(self) -> bool:
        """True if several processes may write, each what it has translated."""
        return self.sink.concurrent and not self.paced and self.writer.fails

    def write(self, batches: Iterator[VectorBatch]) -> Iterator[Written]:
        """Write translated batches, made in a thread of their own; yield what was written."""
        for batch in prefetch(self.keeper.apply(batches) if self.keeper else map(_told, batches)):
            with self.stages.timed_writing():
                taken = self.writer.write(batch)
                ids = IdFingerprint()
                ids.add(taken.ids)
            kept = np.zeros(len(taken), np.bool_) if taken.native is None else taken.native.copy()
            others = _among(taken, self.writer.others)
            kept &= ~others
            moved = _moved(taken, kept, others)
            yield Written(len(batch), ids, int(kept.sum()), batch.cursor, moved)


def _told(batch: VectorBatch) -> VectorBatch:
    """Return points whose payloads tell the origin of their vectors, if that is known here."""
    return unmarked(batch) if batch.native is None else marked(batch, batch.native)


def _among(batch: VectorBatch, ids: list[PointId]) -> NDArray[np.bool_]:
    """Tell which points have one of these ids."""
    if not ids:
        return np.zeros(len(batch), np.bool_)
    chosen = set(ids)
    return np.array([i in chosen for i in batch.ids.tolist()], np.bool_)


def _moved(
    batch: VectorBatch, kept: NDArray[np.bool_], others: NDArray[np.bool_]
) -> MovedPoints | None:
    """Return what a ledger is to know of points that have at most one vector each."""
    if batch.read_hashes is None:
        return None
    has_one = np.array(batch.each_count()) > 0
    drawn = np.zeros(len(batch), np.int64)
    drawn[has_one] = sketches(batch.vectors)
    origins = np.where(kept, Origin.ENCODED, Origin.TRANSLATED).astype(np.int8)
    origins[~has_one] = Origin.BARE
    origins[others] = Origin.FOREIGN
    return MovedPoints(batch.ids, batch.read_hashes, origins, drawn)
