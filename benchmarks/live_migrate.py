"""What it costs to migrate a collection that others write to, by an indexed field and by hash.

    python benchmarks/live_migrate.py --port 6333 --grpc-port 6334   # 15 minutes

100,000 points with a payload of five fields, from 384 to 768 dimensions by a linear map, between
two collections of one Qdrant server over gRPC; the time of change has an index of datetimes. The
runs take turns:

- ``--still``: the points are read once, and nobody writes;
- nobody writes, and a pass over the source makes sure of that: by the field, and by hash;
- a writer changes 100 points a second of another collection of the server: ``--still``;
- the same writer changes points of the source: by the field, and by hash.

``--settle 0.05``, since by hash a pass takes as long as thousands of changes. No point had changed
in the hour before the writer began; of what changes within ``--overlap`` before a pass, each pass
reads all again.

So the last runs have the load of the writer in common with the one before them, and differ from it
by what a live collection costs. Seconds are those that ``migrate`` tells, from the first read to
the publication. Writes ``results/live_migrate.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
from measuring import clustered, make_translator, provenance, watch
from qdrant_client import QdrantClient, models
from qdrant_streaming import LOADED_AT_ONCE, NEW, OLD, PACKAGES, RESULTS, Server, make

SOURCE, OTHER, TARGET, FIELD = "live-old", "live-other", "live-new", "updated_at"
ANCHORS, RATE, AT_ONCE = 2000, 100, 20
SETTLE = ["--settle", "0.05"]
"""At a writer's rate and a hash's pace, as many points of 100,000 change during a pass."""
STILL, BY_FIELD = ["--still"], ["--changed-by", FIELD, *SETTLE]
BY_HASH = ["--changed-by", "hash", *SETTLE]
RUNS: dict[str, tuple[list[str], str | None]] = {
    "still": (STILL, None),
    "a pass by the field finds nothing": (BY_FIELD, None),
    "a pass by hash finds nothing": (BY_HASH, None),
    "still, a writer at another collection": (STILL, OTHER),
    "live, by the field": (BY_FIELD, SOURCE),
    "live, by hash": (BY_HASH, SOURCE),
}


def batch(ids: list[int], seed: int, ago: list[float]) -> models.Batch:
    """Points that were changed so many seconds ago."""
    now = datetime.now(UTC)
    payloads = [
        {
            "text": f"the text of point {number}, which is a sentence of some fifteen words or so",
            "group": number % 7,
            "score": number / 8,
            "tags": ["a", "b"],
            FIELD: (now - timedelta(seconds=seconds)).isoformat(),
        }
        for number, seconds in zip(ids, ago, strict=True)
    ]
    vectors = clustered(len(ids), OLD, np.random.default_rng(seed)).tolist()
    return models.Batch(ids=ids, vectors=vectors, payloads=payloads)


def fill(client: QdrantClient, name: str, count: int) -> None:
    """Make a collection whose points changed in the last 30 days."""
    make(client, name, OLD)
    client.create_payload_index(name, FIELD, models.PayloadSchemaType.DATETIME, wait=True)
    rng = np.random.default_rng(3)
    for start in range(0, count, LOADED_AT_ONCE):
        ids = list(range(start, min(start + LOADED_AT_ONCE, count)))
        ago = rng.uniform(3600, 30 * 86400, len(ids)).tolist()
        client.upsert(name, batch(ids, start, ago))


@contextmanager
def writing(server: Server, name: str, count: int) -> Iterator[list[int]]:
    """Have a writer change points at its rate meanwhile; yields the counts of its requests."""
    client, over, done = server.client(), threading.Event(), list[int]()

    def write() -> None:
        begun, rng = time.monotonic(), np.random.default_rng(time.time_ns())
        while not over.is_set():
            ids = rng.choice(count, AT_ONCE, replace=False).tolist()
            client.upsert(name, batch(ids, int(rng.integers(2**31)), [0.0] * len(ids)))
            done.append(len(ids))
            over.wait(max(0.0, begun + sum(done) / RATE - time.monotonic()))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
        client.close()


def migrate(
    client: QdrantClient, server: Server, translator: str, run: str, count: int
) -> tuple[float, int]:
    """Seconds that vecmigrate tells of a run, and points that were changed meanwhile."""
    how, written = RUNS[run]
    client.delete_collection(TARGET)
    Path(os.environ["VECMIGRATE_STATE"]).unlink(missing_ok=True)
    with nullcontext([0]) if written is None else writing(server, written, count) as changes:
        ran = watch(
            "migrate", server.uri(SOURCE), server.uri(TARGET), "--translator", translator,
            *how, "--json",
        )  # fmt: skip
    told = json.loads(ran.out)
    assert told["written"] == client.count(TARGET).count == count
    assert (told["found_by"] is None) == (how is STILL)
    if how is BY_FIELD:
        assert told["found_by"]["told_by"] == "index", told["found_by"]
    seconds: float = told["seconds"]
    return seconds, sum(changes)


def page(made: str, count: int, seconds: dict[str, list[float]], changes: dict[str, int]) -> str:
    rows = []
    for run, each in seconds.items():
        base = "still" if RUNS[run][1] is None else "still, a writer at another collection"
        more = median(each) / median(seconds[base]) - 1
        told = " ".join(f"{one:.1f}" for one in each)
        rows.append(f"| {run} | {median(each):.1f} | {more:+.0%} | {changes[run]:,} | {told} |")
    table = "\n".join(rows)
    return f"""# Migrating a collection that others write to

`python benchmarks/live_migrate.py`, {made}.
{count:,} points with five payload fields, {OLD} to {NEW} dimensions, ridge, one Qdrant server; a
writer changes {RATE} points a second, {AT_ONCE} at once. Medians of {len(seconds["still"])} runs in
turn. "More" is beside the still run under the same load.

| run | seconds, median | more | points changed meanwhile, median | each run |
|---|---|---|---|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "live_migrate")
    asked = parser.parse_args()
    server = Server(asked.host, asked.port, asked.grpc_port)
    client = server.client()
    seconds: dict[str, list[float]] = {run: [] for run in RUNS}
    changed: dict[str, list[int]] = {run: [] for run in RUNS}
    with tempfile.TemporaryDirectory() as made:
        os.environ["VECMIGRATE_STATE"] = str(Path(made) / "state.sqlite")
        translator = make_translator(Path(made), "ridge", (OLD, NEW), ANCHORS)
        fill(client, OTHER, asked.count)
        for _ in range(asked.rounds):
            # What the writer made late is early again.
            fill(client, SOURCE, asked.count)
            for run in RUNS:
                taken, count = migrate(client, server, translator, run, asked.count)
                seconds[run].append(taken)
                changed[run].append(count)
                print(f"{run}: {taken:.1f} s, {count:,} changed", flush=True)
    for name in (SOURCE, OTHER, TARGET):
        client.delete_collection(name)
    changes = {run: int(median(each)) for run, each in changed.items()}
    told = f"{provenance(*PACKAGES)}, Qdrant server {client.info().version}"
    figures = {"made": told, "count": asked.count, "seconds": seconds, "changed": changed}
    asked.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(page(told, asked.count, seconds, changes))


if __name__ == "__main__":
    main()
