"""Whether two collections hold the same points: how many, which ids, with which payloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from pydantic import JsonValue

from vecmigrate.points.batch import IdArray, PointId, VectorBatch
from vecmigrate.points.checksums import Tally
from vecmigrate.points.ids import name_some
from vecmigrate.verification.differences import Suspects, differing_payloads
from vecmigrate.verification.record import Check, Outcome

Again = Callable[[bool], Iterable[VectorBatch]]
"""Reads a collection a second time, with payloads or without."""

Fetch = Callable[[IdArray], Iterable[VectorBatch]]
"""Reads the points that are there, by their ids."""


def check_counts(source: Tally, target: Tally, left_out: int, refused: int = 0) -> Check:
    """Compare how many points there are.

    Of the source's, ``left_out`` were bad vectors, and the target's store ``refused`` others.
    """
    same = source.count == target.count
    summary = f"{target.count:,} points"
    if not same:
        summary += f", the source has {source.count:,}"
    if left_out:
        summary += f" and {left_out:,} bad vectors, left out"
    if refused:
        summary += f" and {refused:,} refused points, set aside"
    return Check(
        name="count",
        outcome=Outcome.PASSED if same else Outcome.FAILED,
        summary=summary,
        figures={
            "source": source.count,
            "target": target.count,
            "left_out": left_out,
            "refused": refused,
        },
    )


def check_ids(source: Tally, target: Tally, old: Again, new: Again) -> Check:
    """Compare the ids; where they differ, read both collections again to name those that do."""
    if np.array_equal(source.ids, target.ids) and source.count == target.count:
        return Check(name="ids", outcome=Outcome.PASSED, summary="the ids are the source's")
    suspects = Suspects(source.ids != target.ids)
    ours, theirs = suspects.ids(_ids(old(False))), suspects.ids(_ids(new(False)))
    missing, extra = list((ours - theirs).elements()), list((theirs - ours).elements())
    least = "" if suspects.all_buckets else "at least "
    parts = [
        f"{least}{len(ids):,} {what}: {name_some(ids)}"
        for what, ids in (("missing", missing), ("extra", extra))
        if ids
    ]
    return Check(
        name="ids",
        outcome=Outcome.FAILED,
        summary="; ".join(parts) or "ids differ that a second reading no longer finds",
        figures={
            "missing": len(missing),
            "extra": len(extra),
            "all_found": suspects.all_buckets,
            "missing_ids": _first(missing),
            "extra_ids": _first(extra),
        },
    )


def check_payloads(
    source: Tally, target: Tally, old: Again, new: Again, *, ulps: int, fetch: Fetch
) -> Check:
    """Compare payloads by hashes; where they differ, read again to name the points.

    Parameters
    ----------
    ulps
        How exact the stores' floats are; above 0 a hash that differs is settled by the values.
    fetch
        Reads points of the target, for that.
    """
    if np.array_equal(source.contents, target.contents):
        return Check(
            name="payloads", outcome=Outcome.PASSED, summary="the payloads are the source's"
        )
    contents, ids = source.contents != target.contents, source.ids != target.ids
    if ulps:
        differing, near = differing_payloads(contents, old(True), fetch, ulps)
        return _payloads_by_value(differing, near, ulps)
    # Where the ids agree it is the payloads that do not; elsewhere a missing point may be all.
    certain = contents & ~ids
    suspects = Suspects(certain if certain.any() else contents)
    ours, theirs = suspects.contents(old(True)), suspects.contents(new(True))
    differing = [i for i, digest in ours.items() if i in theirs and theirs[i] != digest]
    if not differing and not certain.any():
        return Check(
            name="payloads",
            outcome=Outcome.PASSED if suspects.all_buckets else Outcome.SKIPPED,
            summary="no payload differs among the points that both hold"
            if suspects.all_buckets
            else "too many ids differ to compare payloads",
        )
    least = "" if suspects.all_buckets else "at least "
    return Check(
        name="payloads",
        outcome=Outcome.FAILED,
        summary=f"{least}{len(differing):,} payloads are not the source's: "
        f"ids {name_some(differing)}"
        if differing
        else "payloads differ that a second reading no longer finds",
        figures={
            "differing": len(differing),
            "all_found": suspects.all_buckets,
            "differing_ids": _first(differing),
        },
    )


def _payloads_by_value(differing: list[PointId], near: int, ulps: int) -> Check:
    summary = "the payloads are the source's"
    if near:
        summary += (
            f", the floats of {near:,} to {ulps} units in the last place, as the store has it"
        )
    if differing:
        summary = f"{len(differing):,} payloads are not the source's: ids {name_some(differing)}"
    return Check(
        name="payloads",
        outcome=Outcome.FAILED if differing else Outcome.PASSED,
        summary=summary,
        figures={
            "differing": len(differing),
            "all_found": True,
            "differing_ids": _first(differing),
            "near": near,
            "units_in_the_last_place": ulps,
        },
    )


def _ids(batches: Iterable[VectorBatch]) -> Iterable[IdArray]:
    return (batch.ids for batch in batches)


def _first(ids: list[PointId]) -> list[JsonValue]:
    return list(ids[:10])
