"""Migrations in processes of their own that are killed, and what is left of them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vecmigrate import Procrustes, open_sink, open_source, save_translator
from vecmigrate.batches import VectorBatch
from vecmigrate.description import Metric, TargetSpec

OLD_DIM, NEW_DIM = 8, 12
PAIRS = [("faiss", "faiss"), ("qdrant", "qdrant"), ("faiss", "qdrant"), ("qdrant", "faiss")]


def place(store: str, folder: Path, name: str) -> str:
    return (
        f"faiss:{folder}/{name}.faiss" if store == "faiss" else f"qdrant:{folder}/{name}-q/{name}"
    )


def make_source(store: str, folder: Path, points: int) -> str:
    """A collection with payloads of every shape, and ids with gaps."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((points, OLD_DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    payloads = [
        {"text": f"text {i}", "n": i, "nested": {"list": [i, None, "ü"], "deep": {"x": i / 7}}}
        if i % 5
        else {}
        for i in range(points)
    ]
    uri = place(store, folder, "old")
    spec = TargetSpec(dimension=OLD_DIM, metric=Metric.COSINE, text_field="text")
    with open_sink(uri, spec) as sink:
        sink.write(VectorBatch(np.arange(points) * 3 + 1, vectors, payloads))
        sink.finish()
    return uri


def make_translator(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    path = folder / "translator"
    X, Y = rng.standard_normal((60, OLD_DIM)), rng.standard_normal((60, NEW_DIM))
    save_translator(Procrustes().fit(X, Y), path)
    return path


def contents(uri: str) -> dict[object, tuple[bytes, str]]:
    """Each point's vector, byte by byte, and payload."""
    found: dict[object, tuple[bytes, str]] = {}
    with open_source(uri) as source:
        for batch in source.batches(1000):
            payloads = batch.payloads or [{}] * len(batch)
            for point, vector, payload in zip(
                batch.ids.tolist(), batch.vectors, payloads, strict=True
            ):
                found[point] = (vector.tobytes(), json.dumps(payload, sort_keys=True))
    return found


def start(source: str, target: str, translator: Path, state: Path, batch: int) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "vecmigrate", "migrate", source, target,
        "--translator", str(translator), "--state", str(state),
        "--batch-size", str(batch), "--checkpoint-seconds", "0", "--json",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def migrate_with_kills(
    source: str,
    target: str,
    translator: Path,
    state: Path,
    *,
    kills: int,
    seconds: tuple[float, float],
    seed: int,
    batch: int,
) -> tuple[int, dict]:
    """Kill the migration up to ``kills`` times, each at a random instant, then let it end.

    Returns
    -------
    tuple
        How often it was killed while at work, and the last run's result.
    """
    rng = random.Random(seed)
    landed = 0
    for _ in range(kills):
        process = start(source, target, translator, state, batch)
        time.sleep(rng.uniform(*seconds))
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, out + err
            return landed, json.loads(out)
        landed += 1
    process = start(source, target, translator, state, batch)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return landed, json.loads(out)
