"""Writing translated batches, and what is said of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.sink import Sink
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, TargetSpec
from vecmigrate.quarantine import PointWriter
from vecmigrate.runtime.threads import prefetch
from vecmigrate.stages import StageSeconds


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
        How many of them have an anchor's true vector.
    cursor
        Where the source goes on after them.
    """

    read: int
    ids: IdFingerprint
    kept_anchors: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Writing:
    """A target that is being written.

    Attributes
    ----------
    paced
        True where the rate is bounded, so that one process has to write all.
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
        """True where several processes may write, each what it has translated."""
        return self.sink.concurrent and not self.paced and self.writer.fails

    def write(self, batches: Iterator[VectorBatch]) -> Iterator[Written]:
        """Write translated batches, made in a thread of their own; yield what was written."""
        for batch in prefetch(self.keeper.apply(batches) if self.keeper else batches):
            with self.stages.timed_writing():
                taken = self.writer.write(batch)
                ids = IdFingerprint()
                ids.add(taken.ids)
            kept = _kept_in(taken) if self.keeper else 0
            yield Written(len(batch), ids, kept, batch.cursor)


def _kept_in(batch: VectorBatch) -> int:
    if batch.payloads is None:
        return 0
    return sum(payload.get(ORIGIN_FIELD) == ENCODED for payload in batch.payloads)
