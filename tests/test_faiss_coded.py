"""FAISS indexes that store codes: read as FAISS decodes them, rebuilt with the same recipe."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from faiss_indexes import save

from vecmigrate import open_sink, open_source
from vecmigrate.connector import TargetSpec

OLD, NEW, COUNT = 32, 48, 2000
KINDS = {
    "SQ8": "SQ8",
    "PQ8x4": "PQ12x4",
    "IVF16,SQ8": "IVF16,SQ8",
    "IVF16,PQ8x4": "IVF16,PQ12x4",
    "HNSW8,SQ8": "HNSW8,SQ8",
    "HNSW8,PQ8x4": "HNSW8,PQ12x4",
}


@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
@pytest.mark.parametrize("id_map", ["", "IDMap2,"])
@pytest.mark.parametrize("words", KINDS)
def test_codes_are_decoded_and_rebuilt(
    tmp_path: Path, words: str, id_map: str, metric: int
) -> None:
    rows = np.random.default_rng(0).standard_normal((COUNT, NEW), dtype=np.float32)
    index = faiss.index_factory(OLD, id_map + words, metric)
    old = np.ascontiguousarray(rows[:, :OLD])
    index.train(old)
    index.add_with_ids(old, np.arange(COUNT)) if id_map else index.add(old)
    inner = faiss.downcast_index(index.index) if id_map else index
    expected = inner.sa_decode(inner.sa_encode(old)) if "HNSW" not in words else None
    if expected is None:
        expected = inner.storage.reconstruct_n(0, COUNT)
    target = f"faiss:{tmp_path / 'new.index'}"
    with open_source(save(index, tmp_path / "old.index")) as source:
        described = source.describe()
        assert any("lossy" in note for note in described.notes)
        spec = TargetSpec.like(described, dimension=NEW)
        with open_sink(target, spec) as sink:
            for batch in source.batches(300):
                np.testing.assert_allclose(batch.vectors, expected[batch.ids], atol=1e-5)
                np.testing.assert_array_equal(source.fetch(batch.ids).vectors, batch.vectors)
                sink.write(batch.with_vectors(rows[batch.ids]))
            sink.finish()
    with open_source(target) as copy:
        assert copy.describe().index_type == id_map + KINDS[words]
        assert copy.describe().count == COUNT
        for batch in copy.batches(COUNT):
            error = np.square(batch.vectors - rows[batch.ids]).sum()
            assert error < 0.5 * np.square(rows).sum()
