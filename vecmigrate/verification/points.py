"""Whether two collections hold the same points: how many, which ids, with which payloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from vecmigrate.points.batch import IdArray, PointId, VectorBatch
from vecmigrate.points.checksums import (
    BUCKETS,
    Tally,
    bucket_of,
    content_hashes,
    id_hashes,
    same_payload,
)
from vecmigrate.points.ids import name_some
from vecmigrate.verification.records import Check

Again = Callable[[bool], Iterable[VectorBatch]]
"""Reads a collection a second time, with payloads or without."""

Fetch = Callable[[IdArray], Iterable[VectorBatch]]
"""Reads the points that are there, by their ids."""


def check_counts(source: Tally, target: Tally, left_out: int, refused: int = 0) -> Check:
    """Compare how many points there are.

    Of the source's, ``left_out`` had bad vectors or no text, and the target's store ``refused``
    others.
    """
    same = source.count == target.count
    summary = f"{target.count:,} points"
    if not same:
        summary += f", the source has {source.count:,}"
    if left_out:
        summary += f" and {left_out:,} with a bad vector or no text, left out"
    if refused:
        summary += f" and {refused:,} refused points, set aside"
    counts = {"source": source.count, "target": target.count}
    return Check.of("count", same, summary, **counts, left_out=left_out, refused=refused)


def check_ids(source: Tally, target: Tally, old: Again, new: Again) -> Check:
    """Compare the ids; if they differ, read both collections again to name those that do."""
    if np.array_equal(source.ids, target.ids) and source.count == target.count:
        return Check.of("ids", True, "the ids are the source's")
    suspects = Suspects(source.ids != target.ids)
    ours, theirs = suspects.ids(old(False)), suspects.ids(new(False))
    missing, extra = list((ours - theirs).elements()), list((theirs - ours).elements())
    least = "" if suspects.all_buckets else "at least "
    parts = [
        f"{least}{len(ids):,} {what}: {name_some(ids)}"
        for what, ids in (("missing", missing), ("extra", extra))
        if ids
    ]
    return Check.of(
        "ids",
        False,
        "; ".join(parts) or "ids differ that a second reading no longer finds",
        missing=len(missing),
        extra=len(extra),
        all_found=suspects.all_buckets,
        missing_ids=_first(missing),
        extra_ids=_first(extra),
    )


def check_payloads(
    source: Tally, target: Tally, old: Again, new: Again, *, ulps: int, fetch: Fetch
) -> Check:
    """Compare payloads by hashes; if they differ, read again to name the points.

    Parameters
    ----------
    ulps
        How exact the stores' floats are; above 0 a hash that differs is settled by the values.
    fetch
        Reads points of the target, for that.
    """
    if np.array_equal(source.contents, target.contents):
        return Check.of("payloads", True, _SAME_PAYLOADS)
    contents, ids = source.contents != target.contents, source.ids != target.ids
    if ulps:
        differing, near = differing_payloads(contents, old(True), fetch, ulps)
        return _payloads_by_value(differing, near, ulps)
    # Where the ids agree it is the payloads that do not; elsewhere a missing point may be all.
    certain = contents & ~ids
    suspects = Suspects(certain if certain.any() else contents)
    ours, theirs = suspects.contents(old(True)), suspects.contents(new(True))
    differing = [i for i, digest in ours.items() if i in theirs and theirs[i] != digest]
    # What an older version wrote has another hash, and may be the same for all that.
    if differing and len(differing) > len(
        differing_payloads(suspects.chosen, old(True), fetch, 0)[0]
    ):
        return _payloads_by_value(*differing_payloads(contents, old(True), fetch, 0), 0)
    if not differing and not certain.any():
        if suspects.all_buckets:
            return Check.of("payloads", True, "no payload differs among the points that both hold")
        return Check.skipped("payloads", "too many ids differ to compare payloads")
    least = "" if suspects.all_buckets else "at least "
    summary = "payloads differ that a second reading no longer finds"
    if differing:
        summary = least + _not_the_same(differing)
    return Check.of("payloads", False, summary, **_counted(differing, suspects.all_buckets))


def _payloads_by_value(differing: list[PointId], near: int, ulps: int) -> Check:
    summary = _SAME_PAYLOADS
    if near:
        summary += (
            f", the floats of {near:,} to {ulps} units in the last place, as the store has it"
        )
    if differing:
        summary = _not_the_same(differing)
    figures = {**_counted(differing, True), "near": near, "units_in_the_last_place": ulps}
    return Check.of("payloads", not differing, summary, **figures)


def _not_the_same(differing: list[PointId]) -> str:
    return f"{len(differing):,} payloads are not the source's: ids {name_some(differing)}"


def _counted(differing: list[PointId], all_found: bool) -> dict[str, JsonValue]:
    ids = _first(differing)
    return {"differing": len(differing), "all_found": all_found, "differing_ids": ids}


def _first(ids: list[PointId]) -> list[JsonValue]:
    return list(ids[:10])


_SAME_PAYLOADS = "the payloads are the source's"

MOST_BUCKETS = 32
"""Buckets looked into: of ten million ids some 5,000, and all that differ if they are few."""


class Suspects:
    """The points in some of the buckets that differ.

    Parameters
    ----------
    differs
        ``(65536,)`` mask of the buckets that do.

    Attributes
    ----------
    all_buckets
        True if there are no more such buckets, so that what is found is all there is.
    chosen
        ``(65536,)`` mask of the buckets looked into.
    """

    def __init__(self, differs: NDArray[np.bool_]) -> None:
        differing = np.flatnonzero(differs)
        self.all_buckets = len(differing) <= MOST_BUCKETS
        self.chosen = np.zeros(BUCKETS, np.bool_)
        self.chosen[differing[:MOST_BUCKETS]] = True

    def ids(self, stream: Iterable[VectorBatch]) -> Counter[PointId]:
        """Return how often each id among them comes in the stream."""
        found: Counter[PointId] = Counter()
        for batch in stream:
            found.update(batch.ids[self.chosen[bucket_of(id_hashes(batch.ids))]].tolist())
        return found

    def contents(self, stream: Iterable[VectorBatch]) -> dict[PointId, int]:
        """Return the content hash of each id among them."""
        found: dict[PointId, int] = {}
        for batch in stream:
            hashes = id_hashes(batch.ids)
            rows = np.flatnonzero(self.chosen[bucket_of(hashes)])
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
