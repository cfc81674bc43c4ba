"""Names the points by which two collections differ, once it is known in which buckets they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray, PointId, VectorBatch
from vecmigrate.points.checksums import BUCKETS, bucket_of, content_hashes, id_hashes, same_payload

MOST_BUCKETS = 32
"""Buckets looked into: of ten million ids some 5,000, and all that differ where they are few."""


class Suspects:
    """The points in some of the buckets that differ.

    Parameters
    ----------
    differs
        ``(65536,)`` mask of the buckets that do.

    Attributes
    ----------
    all_buckets
        True where there are no more such buckets, so that what is found is all there is.
    """

    def __init__(self, differs: NDArray[np.bool_]) -> None:
        differing = np.flatnonzero(differs)
        self.all_buckets = len(differing) <= MOST_BUCKETS
        self._chosen = np.zeros(BUCKETS, np.bool_)
        self._chosen[differing[:MOST_BUCKETS]] = True

    def ids(self, stream: Iterable[IdArray]) -> Counter[PointId]:
        """Return how often each id among them comes in the stream."""
        found: Counter[PointId] = Counter()
        for ids in stream:
            found.update(ids[self._chosen[bucket_of(id_hashes(ids))]].tolist())
        return found

    def contents(self, stream: Iterable[VectorBatch]) -> dict[PointId, int]:
        """Return the content hash of each id among them."""
        found: dict[PointId, int] = {}
        for batch in stream:
            hashes = id_hashes(batch.ids)
            rows = np.flatnonzero(self._chosen[bucket_of(hashes)])
            if len(rows):
                part = batch.take(rows)
                contents = content_hashes(hashes[rows], part.payloads)
                found.update(zip(part.ids.tolist(), contents.tolist(), strict=True))
        return found


def differing_payloads(
    differs: NDArray[np.bool_],
    stream: Iterable[VectorBatch],
    fetch: Callable[[IdArray], Iterable[VectorBatch]],
    ulps: int,
) -> tuple[list[PointId], int]:
    """Compare payloads by their values, a batch at a time.

    Parameters
    ----------
    differs
        ``(65536,)`` mask of the buckets that do.
    stream
        One collection.
    fetch
        Reads those of some points that the other one holds.

    Returns
    -------
    differing
        The ids of points whose payloads are not the same.
    near
        How many are the same within ``ulps`` units in the last place, but not to the bit.
    """
    differing: list[PointId] = []
    near = 0
    for batch in stream:
        rows = np.flatnonzero(differs[bucket_of(id_hashes(batch.ids))])
        ours = batch.take(rows)
        payloads = dict(zip(ours.ids.tolist(), ours.each_payload(), strict=True))
        for theirs in fetch(ours.ids):
            for point, payload in zip(theirs.ids.tolist(), theirs.each_payload(), strict=True):
                if same_payload(payloads[point], payload, 0):
                    continue
                if same_payload(payloads[point], payload, ulps):
                    near += 1
                else:
                    differing.append(point)
    return differing, near
