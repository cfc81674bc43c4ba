"""Whether what searches find says anything of an index, in the engine and at a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.qdrant.places import SERVED, open_place

from vecmigrate import open_sink, open_source
from vecmigrate.connector import Metric, TargetSpec, VectorBatch, id_array

COUNT, DIMENSION, K = 3000, 16, 11
INDEXED = {"indexing_threshold": 10, "default_segment_number": 1}
NEVER_SO_SMALL = {"indexing_threshold": 100_000, "default_segment_number": 1}
KINDS = {
    "nothing is indexed": (NEVER_SO_SMALL, 10, False),
    "sparse vectors alone are indexed": (NEVER_SO_SMALL, 10, True),
    "so little that the index is not asked": (INDEXED, 100_000, False),
    "indexed": (INDEXED, 10, False),
    "indexed beside sparse vectors": (INDEXED, 10, True),
}


@pytest.fixture(params=["qdrant-edge", *SERVED])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "qdrant-edge":
        yield f"qdrant-edge:{tmp_path}/made"
        return
    with open_place(request.param, tmp_path) as place:
        yield place.uri(place.name())


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_measured_only_if_it_answers(uri: str, kind: str) -> None:
    optimizers, full_scan_threshold, sparse = KINDS[kind]
    settings: dict[str, Any] = {
        "vector": "text",
        "hnsw_config": {"m": 8, "ef_construct": 50, "full_scan_threshold": full_scan_threshold},
        "optimizers_config": optimizers,
        "sparse_vectors": {"words": {}} if sparse else {},
    }
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((COUNT, DIMENSION)).astype(np.float32)
    extra = {"vectors": {"words": {"indices": [1], "values": [1.0]}}}
    batch = VectorBatch(
        id_array(list(range(COUNT))), vectors, extras=[extra] * COUNT if sparse else None
    )
    spec = TargetSpec(dimension=DIMENSION, metric=Metric.COSINE, store="qdrant", settings=settings)
    with open_sink(uri, spec) as sink:
        sink.write(batch)
        sink.finish()
    with open_source(uri) as source:
        reason = source.unmeasurable(vectors[:50], K)
        assert (reason is None) is kind.startswith("indexed"), reason
        found = source.search(vectors[:1], K)
        assert found is not None
        assert found[0][0] == 0
