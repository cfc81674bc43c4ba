"""Fetches the points that are there."""

from __future__ import annotations

import numpy as np

from vecmigrate.batches import IdArray, VectorBatch
from vecmigrate.errors import MissingIdsError
from vecmigrate.source import Source


def fetch_existing(source: Source, ids: IdArray) -> list[VectorBatch]:
    """Return points by id, without those that have no vector or are gone since they were listed."""
    if not len(ids):
        return []
    try:
        return [source.fetch(ids).with_one_vector()]
    except MissingIdsError:
        if len(ids) == 1:
            return []
    half = len(ids) // 2
    return fetch_existing(source, ids[:half]) + fetch_existing(source, ids[half:])


def rows_by_id(batch: VectorBatch, ids: IdArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the row of each of ``ids`` in a batch that has them all."""
    rows = {point_id: row for row, point_id in enumerate(batch.ids.tolist())}
    return np.fromiter((rows[i] for i in ids.tolist()), np.intp, len(ids))
