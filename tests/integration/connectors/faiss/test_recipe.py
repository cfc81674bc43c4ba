"""A FAISS target of a kind that its URI names."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from support.faiss.cases import COUNT, rows
from support.faiss.indexes import save

from vecmigrate import open_sink, open_source
from vecmigrate.connector import Metric, TargetSpec, UsageError, VectorBatch


def spec_of(tmp_path: Path, dimension: int) -> TargetSpec:
    index = faiss.index_factory(48, "HNSW8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(rows())
    with open_source(save(index, tmp_path / "old.faiss")) as source:
        return TargetSpec.like(source.describe(), dimension=dimension)


@pytest.mark.parametrize(
    ("words", "reads_as"),
    [
        ("Flat", "Flat"),
        ("IVF16,PQ12x4", "IVF16,PQ12x4"),
        ("OPQ6_24,IVF16,PQ6x4", "OPQ6_24,IVF16,PQ6x4"),
        ("IDMap2,HNSW16,Flat", "IDMap2,HNSW16,Flat"),
        ("SQ8", "SQ8"),
    ],
)
def test_the_uri_names_the_kind(tmp_path: Path, words: str, reads_as: str) -> None:
    """In place of the source's; and what exists is read under the same URI."""
    spec = spec_of(tmp_path, 48)
    uri = f"faiss:{tmp_path / 'new.faiss'}?index={words}"
    with open_sink(uri, spec) as sink:
        sink.write(VectorBatch(np.arange(COUNT), rows(), None))
        assert sink.finish().index_type == reads_as
    with open_source(uri) as target:
        assert target.describe().metric is Metric.DOT
        assert np.concatenate(list(target.ids(500))).shape == (COUNT,)
        expected = target.as_stored(rows()[:50])
        assert np.abs(target.fetch(np.arange(50)).vectors - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("PQ7x4", "multiple|48"),
        ("Flatt", "Flatt"),
        ("RaBitQ", "IndexRaBitQ"),
        ("NSG16,PQ12x4", "L2 only"),
        ("", "empty"),
    ],
)
def test_a_kind_that_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, words: str, said: str
) -> None:
    spec = spec_of(tmp_path, 48)
    with pytest.raises(UsageError, match=said) as caught:
        open_sink(f"faiss:{tmp_path / 'new.faiss'}?index={words}", spec)
    assert "index" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.faiss"]
