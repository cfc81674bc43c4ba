"""Streaming a collection of a Qdrant server by gRPC, beside a bare loop of qdrant-client.

    python benchmarks/qdrant_streaming.py --port 6333 --grpc-port 6334   # 20 minutes

100,000 points with a payload of five fields, from 384 to 768 dimensions by a linear map, indexing
off at both collections. The bare loop is qdrant-client's ``scroll``, the matrix product and
``upsert`` with ``wait=True``, over gRPC, of as many points at a time as vecmigrate takes. It and
``vecmigrate migrate`` take turns; the rate of the latter is that which it tells, until the last
point was written, opening and making the collections included. In the same turns, ``migrate`` from
a snapshot of the collection, beside a loop of ``upsert`` alone, of as many points at a time whose
vectors and payloads are lists and dicts already. Then, after 100 points changed,
``vecmigrate sync --changed-by`` by the index of the field, and without it by reading all; the rest
of the two runs is the same. Writes ``results/qdrant_streaming.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from urllib.request import urlretrieve

import numpy as np
from measuring import clustered, make_translator, provenance, watch
from qdrant_client import QdrantClient, models

from vecmigrate import load_translator
from vecmigrate.migration.options import BATCH_SIZE

OLD, NEW, ANCHORS = 384, 768, 2000
SOURCE, TARGET, BARE = "streaming-old", "streaming-new", "streaming-bare"
FIELD, CHANGED, LOADED_AT_ONCE = "changed_at", 100, 2048
PACKAGES = ("qdrant-client", "grpcio", "protobuf")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the collections are."""

    host: str
    port: int
    grpc_port: int

    def client(self) -> QdrantClient:
        return QdrantClient(
            host=self.host,
            port=self.port,
            grpc_port=self.grpc_port,
            prefer_grpc=True,
            timeout=300,
            check_compatibility=False,
        )

    def uri(self, name: str) -> str:
        return f"qdrant://{self.host}:{self.port}/{name}?grpc_port={self.grpc_port}"


def payload(number: int, changed_at: int) -> dict[str, object]:
    return {
        "text": f"the text of point {number}, which is a sentence of some fifteen words or so",
        "group": number % 7,
        "score": number / 8,
        "tags": ["a", "b"],
        FIELD: changed_at,
    }


def make(client: QdrantClient, name: str, dimension: int) -> None:
    client.delete_collection(name)
    client.create_collection(
        name,
        vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    )


def fill(client: QdrantClient, count: int) -> None:
    make(client, SOURCE, OLD)
    client.create_payload_index(SOURCE, FIELD, models.PayloadSchemaType.INTEGER, wait=True)
    rng = np.random.default_rng(1)
    for start in range(0, count, LOADED_AT_ONCE):
        ids = list(range(start, min(start + LOADED_AT_ONCE, count)))
        vectors = clustered(len(ids), OLD, rng).tolist()
        payloads = [payload(number, number) for number in ids]
        client.upsert(SOURCE, models.Batch(ids=ids, vectors=vectors, payloads=payloads))


def bare(client: QdrantClient, translator: str, count: int) -> float:
    """Points a second of the loop that anybody would write."""
    make(client, BARE, NEW)
    weights = load_translator(translator).transform(np.eye(OLD, dtype=np.float32))
    done, offset = 0, None
    begun = time.perf_counter()
    while True:
        records, offset = client.scroll(
            SOURCE, limit=BATCH_SIZE, offset=offset, with_payload=True, with_vectors=True
        )
        rows = np.array([record.vector for record in records], np.float32) @ weights
        batch = models.Batch(
            ids=[record.id for record in records],
            vectors=rows.tolist(),
            payloads=[record.payload for record in records],
        )
        client.upsert(BARE, batch, wait=True)
        done += len(records)
        if offset is None:
            break
    rate = done / (time.perf_counter() - begun)
    assert done == client.count(BARE).count == count
    client.delete_collection(BARE)
    return rate


def upserts(client: QdrantClient, count: int) -> float:
    """Points a second of ``upsert`` alone."""
    make(client, BARE, NEW)
    rng = np.random.default_rng(1)
    seconds = 0.0
    for start in range(0, count, BATCH_SIZE):
        ids = list(range(start, min(start + BATCH_SIZE, count)))
        vectors = clustered(len(ids), NEW, rng).tolist()
        payloads = [payload(number, number) for number in ids]
        batch = models.Batch(ids=ids, vectors=vectors, payloads=payloads)
        begun = time.perf_counter()
        client.upsert(BARE, batch, wait=True)
        seconds += time.perf_counter() - begun
    assert client.count(BARE).count == count
    client.delete_collection(BARE)
    return count / seconds


def snapshot(client: QdrantClient, server: Server, folder: Path) -> str:
    """Have the server make a snapshot of the source and return its URI as a file here."""
    made = client.create_snapshot(SOURCE, wait=True)
    assert made is not None
    path = folder / "source.snapshot"
    at = f"http://{server.host}:{server.port}/collections/{SOURCE}/snapshots/{made.name}"
    urlretrieve(at, path)
    client.delete_snapshot(SOURCE, made.name, wait=True)
    return f"qdrant-snapshot:{path}"


def migrate(
    client: QdrantClient, source: str, server: Server, translator: str, count: int
) -> float:
    """Points a second that vecmigrate tells."""
    client.delete_collection(TARGET)
    Path(os.environ["VECMIGRATE_STATE"]).unlink(missing_ok=True)
    ran = watch("migrate", source, server.uri(TARGET), "--translator", translator, "--json")
    told = json.loads(ran.out)
    assert told["written"] == client.count(TARGET).count == count
    rate: float = told["vectors_per_second"]
    return rate


def sync(server: Server, translator: str, changed_by: str, changed: int) -> float:
    """Seconds of a run that brings so many points."""
    ran = watch(
        "sync", server.uri(SOURCE), server.uri(TARGET), "--translator", translator,
        "--changed-by", changed_by, "--overlap", "0", "--json",
    )  # fmt: skip
    told = json.loads(ran.out)
    assert told["changed"] == changed
    seconds: float = told["seconds"]
    return seconds


def change(client: QdrantClient, count: int, turn: int) -> None:
    """Change points, at times after all others."""
    rng = np.random.default_rng(turn)
    ids = rng.choice(count, CHANGED, replace=False).tolist()
    payloads = [payload(number, count + turn) for number in ids]
    vectors = clustered(CHANGED, OLD, rng).tolist()
    client.upsert(SOURCE, models.Batch(ids=ids, vectors=vectors, payloads=payloads))


def syncs(client: QdrantClient, server: Server, translator: str, count: int, rounds: int) -> Syncs:
    sync(server, translator, FIELD, 0)
    with_index, without = [], []
    for turn in range(1, 2 * rounds + 1):
        change(client, count, turn)
        if turn % 2:
            with_index.append(sync(server, translator, FIELD, CHANGED))
        else:
            client.delete_payload_index(SOURCE, FIELD, wait=True)
            without.append(sync(server, translator, FIELD, CHANGED))
            client.create_payload_index(SOURCE, FIELD, models.PayloadSchemaType.INTEGER, wait=True)
    return Syncs(with_index, without)


@dataclass(frozen=True, slots=True)
class Syncs:
    """Seconds of each run, by the field's index and by a full reading."""

    by_index: list[float]
    by_reading: list[float]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Points a second of each run."""

    bare: list[float] = field(default_factory=list)
    vecmigrate: list[float] = field(default_factory=list)
    upserts: list[float] = field(default_factory=list)
    from_snapshot: list[float] = field(default_factory=list)


def page(made: str, count: int, streamed: Streamed, synced: Syncs) -> str:
    ratio = median(streamed.vecmigrate) / median(streamed.bare)
    times = median(streamed.upserts) / median(streamed.from_snapshot)
    share = median(synced.by_index) / median(synced.by_reading)
    rates = [" ".join(f"{rate:,.0f}" for rate in runs) for runs in asdict(streamed).values()]
    seconds = [" ".join(f"{one:.2f}" for one in runs) for runs in asdict(synced).values()]
    return f"""# Streaming a Qdrant server's collection by gRPC

`python benchmarks/qdrant_streaming.py`, {made}.
{count:,} points with five payload fields, {OLD} to {NEW} dimensions, ridge; pages and batches of
{BATCH_SIZE:,}; medians of {len(streamed.bare)} runs in turn.

| | points/s, median | each run |
|---|---|---|
| bare loop of `scroll`, product and `upsert` | {median(streamed.bare):,.0f} | {rates[0]} |
| `vecmigrate migrate` | {median(streamed.vecmigrate):,.0f} | {rates[1]} |

vecmigrate is {ratio:.2f} times as fast.

| | points/s, median | each run |
|---|---|---|
| `upsert` alone, vectors and payloads ready-made | {median(streamed.upserts):,.0f} | {rates[2]} |
| `vecmigrate migrate` from a snapshot | {median(streamed.from_snapshot):,.0f} | {rates[3]} |

From a snapshot vecmigrate takes {times:.2f} times the time of the upserts alone.

`vecmigrate sync --changed-by {FIELD}` after {CHANGED} of the points changed:

| | seconds, median | each run |
|---|---|---|
| the field has an index | {median(synced.by_index):.2f} | {seconds[0]} |
| it has none: all is read | {median(synced.by_reading):.2f} | {seconds[1]} |

By the index it takes {share:.2f} of the time of a full reading.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "qdrant_streaming")
    asked = parser.parse_args()
    server = Server(asked.host, asked.port, asked.grpc_port)
    client = server.client()
    running = client.info().version
    with tempfile.TemporaryDirectory() as work:
        os.environ["VECMIGRATE_STATE"] = str(Path(work) / "state.sqlite")
        translator = make_translator(Path(work), "ridge", (OLD, NEW), ANCHORS)
        fill(client, asked.count)
        file, live = snapshot(client, server, Path(work)), server.uri(SOURCE)
        streamed = Streamed()
        for turn in range(asked.rounds):
            streamed.bare.append(bare(client, translator, asked.count))
            streamed.vecmigrate.append(migrate(client, live, server, translator, asked.count))
            streamed.upserts.append(upserts(client, asked.count))
            streamed.from_snapshot.append(migrate(client, file, server, translator, asked.count))
            print(turn, *(round(runs[-1]) for runs in asdict(streamed).values()), flush=True)
        # What the syncs go on from.
        migrate(client, live, server, translator, asked.count)
        synced = syncs(client, server, translator, asked.count, asked.rounds)
    for name in (SOURCE, TARGET):
        client.delete_collection(name)
    made = f"{provenance(*PACKAGES)}, Qdrant server {running}"
    told = {
        "made": made,
        "points": asked.count,
        "dimensions": [OLD, NEW],
        "points_per_second": asdict(streamed),
        "sync_seconds": asdict(synced),
    }
    asked.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(page(made, asked.count, streamed, synced))
    print(asked.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
