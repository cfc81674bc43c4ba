"""Reads collections as they are verified: one vector a point, or each of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.screening import Absent, OnBadVector, Skipped, screen


def read_points(
    source: Source, batch_size: int, *, payloads: bool = True, extras: bool = False
) -> Iterator[VectorBatch]:
    """Yield a collection's points that have a vector; all, where points have several each.

    Parameters
    ----------
    extras
        What the store keeps beside them too.
    """
    if source.describe().multivector:
        return source.whole_batches(batch_size)
    if extras:
        return (batch.with_one_vector() for batch in source.whole_batches(batch_size))
    return source.batches(batch_size, payloads=payloads)


def screened(
    batches: Iterable[VectorBatch], source: Source, policy: OnBadVector, skipped: Skipped
) -> Iterator[VectorBatch]:
    """Screen what :func:`read_points` yields as the migration did; raises as :func:`screen`."""
    described = source.describe()
    absent = Absent.WRITTEN if described.multivector else Absent.BAD
    return screen(batches, described.uri, policy, skipped, absent=absent)
