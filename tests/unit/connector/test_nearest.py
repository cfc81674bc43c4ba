"""The nearest points of a source that only lists ids, some of them gone when they are read."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from vecmigrate import open_source
from vecmigrate.connector import IdArray, UsageError, VectorBatch, Vectors
from vecmigrate.sync.views import View

VECTORS = np.eye(50, 4, dtype=np.float32) + np.arange(50, dtype=np.float32)[:, None]


class Listing(View):
    """Finds given ids whatever is asked for."""

    def __init__(self, uri: str, found: list[list[int]]) -> None:
        super().__init__(open_source(uri))
        self._found = [np.array(ids, np.int64) for ids in found]

    def _seen(self, batch: VectorBatch) -> VectorBatch:
        return batch

    def search(self, queries: Vectors, k: int) -> list[IdArray]:
        return self._found


@pytest.fixture
def uri(tmp_path: Path) -> str:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(4))
    index.add_with_ids(VECTORS, 2 * np.arange(50))
    faiss.write_index(index, str(tmp_path / "even.faiss"))
    return f"faiss:{tmp_path}/even.faiss"


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ([[8, 2, 98]], [[8, 2, 98]]),
        ([[8, 3, 2], [2, 8, 5]], [[8, 2], [2, 8]]),
        ([[1, 3], []], [[], []]),
        ([[], []], [[], []]),
        ([], []),
    ],
)
def test_points_that_are_gone_are_passed_over(
    uri: str, listed: list[list[int]], there: list[list[int]]
) -> None:
    with Listing(uri, listed) as source:
        found = source.nearest(VECTORS[: len(listed)], 3)
    assert found is not None
    assert [points.ids.tolist() for points in found] == there
    for points in found:
        np.testing.assert_array_equal(points.vectors, VECTORS[points.ids // 2])


def test_a_source_without_filters_refuses_one(uri: str) -> None:
    with Listing(uri, [[8]]) as source, pytest.raises(UsageError):
        source.nearest(VECTORS[:1], 3, where="anything")
