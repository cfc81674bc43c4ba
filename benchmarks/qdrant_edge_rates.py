"""Points a second through Qdrant's engine in this process, beside bare calls of that engine.

    python benchmarks/qdrant_edge_rates.py --work DIR [--points 50000]

Writing: from a FAISS file of 768 dimensions to ``qdrant-edge:``, from the first read until the last
point is written (its index is built after that), beside a loop of ``EdgeShard.update`` calls of as
many ready-made points each. Reading: all of a shard of points with three vectors (384, 128 and a
sparse one) and payloads, beside a loop of ``EdgeShard.scroll`` calls that make no Python objects of
what they read, and one that does. The two of a pair take turns; the figures are medians of
``--rounds``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import qdrant_edge
from measuring import provenance

from vecmigrate import Procrustes, migrate, open_source

DIMENSION, ANCHORS, BATCH, PAGE = 768, 2000, 8192, 1000
BESIDE = 128


def make_index(path: Path, points: int) -> None:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(np.random.default_rng(0).standard_normal((points, DIMENSION), np.float32))
    faiss.write_index(index, str(path))


def streamed(source: Path, target: Path, translator: Procrustes) -> float:
    """Return the seconds until the last point is written."""
    shutil.rmtree(target, ignore_errors=True)
    begun = ended = time.perf_counter()

    def progress(_: int) -> None:
        nonlocal ended
        ended = time.perf_counter()

    migrate(f"faiss:{source}", f"qdrant-edge:{target}", translator, progress=progress)
    return ended - begun


def updated(target: Path, points: list[qdrant_edge.Point]) -> float:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    params = qdrant_edge.EdgeVectorParams(size=DIMENSION, distance=qdrant_edge.Distance.Dot)
    shard = qdrant_edge.EdgeShard.create(str(target), qdrant_edge.EdgeConfig(vectors=params))
    begun = time.perf_counter()
    for start in range(0, len(points), BATCH):
        batch = points[start : start + BATCH]
        shard.update(qdrant_edge.UpdateOperation.upsert_points(batch))
    seconds = time.perf_counter() - begun
    shard.close()
    return seconds


def make_shard(path: Path, points: int) -> None:
    rng = np.random.default_rng(0)
    params = qdrant_edge.EdgeVectorParams
    config = qdrant_edge.EdgeConfig(
        vectors={
            "text": params(size=384, distance=qdrant_edge.Distance.Cosine),
            "image": params(size=BESIDE, distance=qdrant_edge.Distance.Dot),
        },
        sparse_vectors={"words": qdrant_edge.EdgeSparseVectorParams()},
    )
    path.mkdir()
    shard = qdrant_edge.EdgeShard.create(str(path), config)
    for start in range(0, points, PAGE):
        made = [
            qdrant_edge.Point(
                i,
                {
                    "text": rng.standard_normal(384, np.float32),
                    "image": rng.standard_normal(BESIDE, np.float32),
                    "words": qdrant_edge.SparseVector([1, i + 2], [0.5, 0.25]),
                },
                {"title": f"point {i}", "year": 1900 + i % 120, "tags": ["a", "b"]},
            )
            for i in range(start, min(start + PAGE, points))
        ]
        shard.update(qdrant_edge.UpdateOperation.upsert_points(made))
    shard.optimize()
    shard.close()


def scrolled(path: Path, *, objects: bool) -> float:
    shard = qdrant_edge.EdgeShard.load(str(path))
    begun, offset = time.perf_counter(), None
    while True:
        request = qdrant_edge.ScrollRequest(
            offset=offset, limit=PAGE, with_payload=True, with_vector=True
        )
        records, offset = shard.scroll(request)
        if objects:
            for record in records:
                _ = record.vector, record.payload
        if offset is None:
            break
    seconds = time.perf_counter() - begun
    shard.close()
    return seconds


def read(path: Path, *, whole: bool) -> float:
    with open_source(f"qdrant-edge:{path}?vector=text") as source:
        begun = time.perf_counter()
        batches = source.whole_batches(PAGE) if whole else source.batches(PAGE)
        for _ in batches:
            pass
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    folder = asked.work / "qdrant-edge"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_index(folder / "old.faiss", asked.points)
    make_shard(folder / "three", asked.points)
    rng = np.random.default_rng(1)
    anchors = rng.standard_normal((2, ANCHORS, DIMENSION))
    translator = Procrustes().fit(anchors[0], anchors[1])
    rows = rng.standard_normal((asked.points, DIMENSION), np.float32)
    points = [qdrant_edge.Point(i, row, {}) for i, row in enumerate(rows)]
    del rows
    runs: dict[str, Callable[[], float]] = {
        "written from FAISS": lambda: streamed(folder / "old.faiss", folder / "new", translator),
        "bare updates": lambda: updated(folder / "bare", points),
        "read, vector and payload": lambda: read(folder / "three", whole=False),
        "read, all of a point": lambda: read(folder / "three", whole=True),
        "bare scrolls": lambda: scrolled(folder / "three", objects=False),
        "bare scrolls, as objects": lambda: scrolled(folder / "three", objects=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(asked.rounds):
        for name, run in runs.items():
            seconds[name].append(run())
    rates = {name: round(asked.points / statistics.median(took)) for name, took in seconds.items()}
    print(provenance("qdrant-edge-py"))
    print(json.dumps({"points a second": rates}, indent=2))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
