"""Searches an index file as a reader does, with the parameters that the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vecmigrate.connector import Metric, Vectors
from vecmigrate_faiss.layout import read_index, reading
from vecmigrate_faiss.lookup import Int64s
from vecmigrate_faiss.unit_length import scaled_for

_MOST_QUERIES = 1024


def search_index(path: Path, queries: Vectors, k: int, metric: Metric) -> list[Int64s]:
    """Return the FAISS ids of each query's ``k`` nearest, fewer where the index finds no more.

    Raises
    ------
    InputError
        Where the file cannot be read, or the queries are not of its dimension.
    """
    queries = scaled_for(metric, queries)
    index = read_index(path)
    found: list[Int64s] = []
    with reading(path):
        if queries.shape[1] != index.d:
            raise RuntimeError(f"queries of {queries.shape[1]} dimensions, it has {index.d}")
        for start in range(0, len(queries), _MOST_QUERIES):
            part = np.ascontiguousarray(queries[start : start + _MOST_QUERIES])
            _, ids = index.search(part, min(k, index.ntotal))
            found += [row[row >= 0] for row in ids]
    return found
