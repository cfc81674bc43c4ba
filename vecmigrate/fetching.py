"""Fetches the points that are there."""

from __future__ import annotations

import numpy as np

from vecmigrate.errors import MissingIdsError
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.source import Source


def fetch_there(source: Source, ids: IdArray) -> list[VectorBatch]:
    """Return points by id, without those that are gone since they were listed."""
    if not len(ids):
        return []
    try:
        return [source.fetch(ids)]
    except MissingIdsError:
        if len(ids) == 1:
            return []
    half = len(ids) // 2
    return fetch_there(source, ids[:half]) + fetch_there(source, ids[half:])


def fetch_existing(source: Source, ids: IdArray) -> list[VectorBatch]:
    """As :func:`fetch_there`, without points that have no vector."""
    return [batch.with_one_vector() for batch in fetch_there(source, ids)]


def rows_by_id(batch: VectorBatch, ids: IdArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the row of each of ``ids`` in a batch that has them all."""
    rows = {point_id: row for row, point_id in enumerate(batch.ids.tolist())}
    return np.fromiter((rows[i] for i in ids.tolist()), np.intp, len(ids))
