"""FAISS indexes of every kind that the connector reads, for its tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

DIMENSION = 16
COUNT = 300

OWN_IDS = ("Flat", "HNSW12,Flat", "IVF9,Flat", "IVF9_HNSW8,Flat")
WITH_IDS = (
    "IVF9,Flat",
    "IVF9_HNSW8,Flat",
    *(f"{id_map},{kind}" for id_map in ("IDMap", "IDMap2") for kind in OWN_IDS),
)


def vectors(count: int = COUNT, seed: int = 0) -> NDArray[np.float32]:
    """Random ``(count, 16)`` float32."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32)


def sparse_ids(count: int = COUNT) -> NDArray[np.int64]:
    """Distinct ids in no order, some of them large."""
    drawn = np.random.default_rng(1).choice(10**6, count, replace=False)
    return np.where(drawn % 7 == 0, drawn + 2**53, drawn).astype(np.int64)


def make_index(
    words: str,
    metric: int = faiss.METRIC_L2,
    ids: NDArray[np.int64] | None = None,
    data: NDArray[np.float32] | None = None,
) -> Any:
    """Build the index that FAISS's factory names, with ids of its own where none are given."""
    rows = vectors() if data is None else data
    index = faiss.index_factory(DIMENSION, words, metric)
    with_clusters = index.index if hasattr(index, "id_map") else index
    if "IVF" in words:
        faiss.downcast_index(with_clusters).cp.min_points_per_centroid = 1
    index.train(rows)
    if ids is None:
        index.add(rows)
    else:
        index.add_with_ids(rows, ids)
    return index


def save(index: Any, path: Path) -> str:
    """Write the index and return its URI."""
    faiss.write_index(index, str(path))
    return f"faiss:{path}"


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write one record a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
