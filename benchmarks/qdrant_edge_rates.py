"""Points a second through Qdrant's engine in this process, beside bare calls of that engine.

    python benchmarks/qdrant_edge_rates.py --work DIR   # 10 minutes, 5 GiB of memory

Writing: from a FAISS file of 768 dimensions to ``qdrant-edge:``, from the first read until the last
point is written (its index, built after that, is left out), beside a loop of ``EdgeShard.update``
calls of ready-made points, and one that makes the points too. Reading: all of a shard of points
with three vectors (384, 128 and a sparse one) and payloads, beside a loop of ``EdgeShard.scroll``
calls that make no Python objects of what they read, and one that does. All take turns; the figures
are medians of ``--rounds``. Writes ``results/qdrant_edge_rates.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import faiss
import numpy as np
import qdrant_edge
from measuring import provenance
from numpy.typing import NDArray
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.source import FaissSource

from vecmigrate import Procrustes, migrate, open_source
from vecmigrate.connector.uri import parse_uri
from vecmigrate.errors import TerminatedError
from vecmigrate.migration.options import BATCH_SIZE
from vecmigrate.points.batch import VectorBatch

DIMENSION, ANCHORS, PAGE = 768, 2000, 1000
BESIDE = 128
FEW = 256
WRITTEN, READY = "written from FAISS", "bare updates of ready-made points"
MADE = "bare updates, points made in the loop"
RESULTS = Path(__file__).parent / "results"


def make_index(path: Path, points: int) -> None:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(np.random.default_rng(0).standard_normal((points, DIMENSION), np.float32))
    faiss.write_index(index, str(path))


class Begun(FaissSource):
    """A source that notes when it is first read."""

    begun: float

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        self.begun = time.perf_counter()
        return super().whole_batches(batch_size, cursor=cursor)


def streamed(path: Path, target: Path, translator: Procrustes, points: int) -> float:
    """Return the seconds from the first read until the last point is written."""
    shutil.rmtree(target, ignore_errors=True)
    done, ended = 0, 0.0

    def progress(more: int) -> None:
        nonlocal done, ended
        done, ended = done + more, time.perf_counter()

    uri = parse_uri(f"faiss:{path}")
    with Begun(uri, Location.parse(uri, ()).resolved()) as source, suppress(TerminatedError):
        migrate(
            source, f"qdrant-edge:{target}", translator,
            progress=progress, stop=lambda: done == points,
        )  # fmt: skip
    assert done == points
    return ended - source.begun


def updated(target: Path, batches: Iterable[list[qdrant_edge.Point]]) -> float:
    """Return the seconds that a loop of updates takes, the making of ``batches`` included."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    params = qdrant_edge.EdgeVectorParams(size=DIMENSION, distance=qdrant_edge.Distance.Dot)
    shard = qdrant_edge.EdgeShard.create(str(target), qdrant_edge.EdgeConfig(vectors=params))
    begun = time.perf_counter()
    for batch in batches:
        shard.update(qdrant_edge.UpdateOperation.upsert_points(batch))
    seconds = time.perf_counter() - begun
    shard.close()
    return seconds


def points_of(rows: NDArray[np.float32]) -> Iterator[list[qdrant_edge.Point]]:
    """Yield the points of a batch at a time, made as vecmigrate makes them."""
    numbers = rows.reshape(-1).data
    for start in range(0, len(rows), BATCH_SIZE):
        yield [
            qdrant_edge.Point(i, numbers[i * DIMENSION : (i + 1) * DIMENSION], {})
            for i in range(start, min(start + BATCH_SIZE, len(rows)))
        ]


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


def page(made: str, points: int, read_points: int, rates: dict[str, list[float]]) -> str:
    rows = "\n".join(
        f"| {name} | {statistics.median(each):,.0f} | {' '.join(f'{one:,.0f}' for one in each)} |"
        for name, each in rates.items()
    )
    share = statistics.median(rates[WRITTEN]) / statistics.median(rates[READY])
    made_too = statistics.median(rates[WRITTEN]) / statistics.median(rates[MADE])
    return f"""# Qdrant's engine in this process

`python benchmarks/qdrant_edge_rates.py`, {made}.
Written: {points:,} points of {DIMENSION} dimensions without payloads, Procrustes, batches of
{BATCH_SIZE:,}. Read: {read_points:,} points with three vectors and three payload fields, pages of
{PAGE:,}. Medians of {len(rates[WRITTEN])} runs in turn.

| | points/s, median | each run |
|---|---|---|
{rows}

From FAISS to `qdrant-edge:` vecmigrate has {share:.0%} of the rate of bare updates of ready-made
points, and {made_too:.0%} of that of updates whose points are made in the loop.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--points", type=int, default=200_000, help="to write")
    parser.add_argument("--read-points", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "qdrant_edge_rates")
    asked = parser.parse_args()
    folder = asked.work / "qdrant-edge"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_index(folder / "old.faiss", asked.points)
    make_shard(folder / "three", asked.read_points)
    rng = np.random.default_rng(1)
    anchors = rng.standard_normal((2, ANCHORS, DIMENSION))
    translator = Procrustes().fit(anchors[0], anchors[1])
    rows = rng.standard_normal((asked.points, DIMENSION), np.float32)
    points = list(points_of(rows))
    few = [each[low : low + FEW] for each in points for low in range(0, len(each), FEW)]
    old, new, bare, three = (folder / name for name in ("old.faiss", "new", "bare", "three"))
    runs: dict[str, tuple[int, Callable[[], float]]] = {
        WRITTEN: (asked.points, lambda: streamed(old, new, translator, asked.points)),
        READY: (asked.points, lambda: updated(bare, points)),
        f"the same, {FEW} at a time": (asked.points, lambda: updated(bare, few)),
        MADE: (asked.points, lambda: updated(bare, points_of(rows))),
        "read, vector and payload": (asked.read_points, lambda: read(three, whole=False)),
        "read, all of a point": (asked.read_points, lambda: read(three, whole=True)),
        "bare scrolls": (asked.read_points, lambda: scrolled(three, objects=False)),
        "bare scrolls, as objects": (asked.read_points, lambda: scrolled(three, objects=True)),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(asked.rounds):
        for name, (count, run) in runs.items():
            rates[name].append(count / run())
            print(turn, name, round(rates[name][-1]), flush=True)
    shutil.rmtree(folder)
    made = provenance("qdrant-edge-py")
    told = {
        "made": made,
        "points": asked.points,
        "read_points": asked.read_points,
        "dimension": DIMENSION,
        "points_per_second": rates,
    }
    asked.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(page(made, asked.points, asked.read_points, rates))
    print(asked.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
