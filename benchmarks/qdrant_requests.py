"""What each command asks of a Qdrant server: its requests by kind, from the server's own metrics.

    python benchmarks/qdrant_requests.py http://127.0.0.1:6333 --grpc-port 6334

Makes and deletes two collections there. Needs a server that nobody else uses meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np
from qdrant_client import QdrantClient, models

from vecmigrate.translators import Ridge, save_translator

OLD, NEW = "vecmigrate-requests-old", "vecmigrate-requests-new"
SOURCE_DIMENSION, TARGET_DIMENSION = 384, 768
_ANSWERED = re.compile(r"^(?:rest|grpc)_responses_total\{(.*)\} (\d+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
RESULTS = Path(__file__).parent / "results"


def asked(url: str) -> Counter[str]:
    """Return how often each endpoint has been asked since the server began."""
    found: Counter[str] = Counter()
    for labels, count in _ANSWERED.findall(httpx.get(f"{url}/metrics").text):
        said = dict(_LABEL.findall(labels))
        if "metrics" not in said["endpoint"]:
            found[said["endpoint"].rpartition("/")[2]] += int(count)
    return found


def make(url: str, count: int, folder: Path) -> None:
    """Make the old collection, the new encoder's vectors and a translator."""
    rng = np.random.default_rng(0)
    old = rng.standard_normal((count, SOURCE_DIMENSION)).astype(np.float32)
    new = old @ rng.standard_normal((SOURCE_DIMENSION, TARGET_DIMENSION)).astype(np.float32)
    np.save(folder / "new.npy", new)
    save_translator(Ridge().fit(old[:1000], new[:1000]), folder / "t.safetensors")
    client = QdrantClient(url=url, check_compatibility=False)
    for name in (OLD, NEW):
        client.delete_collection(name)
    params = models.VectorParams(size=SOURCE_DIMENSION, distance=models.Distance.COSINE)
    client.create_collection(OLD, params)
    for low in range(0, count, 500):
        rows = range(low, min(low + 500, count))
        points = [
            models.PointStruct(id=i, vector=old[i].tolist(), payload={"text": f"text {i}"})
            for i in rows
        ]
        client.upsert(OLD, points, wait=True)
    client.close()


def commands(source: str, target: str, folder: Path) -> list[list[str]]:
    pair = [source, target, "--translator", str(folder / "t.safetensors")]
    encoder = f"vectors:{folder / 'new.npy'}"
    return [
        ["inspect", source],
        ["anchors", source, "--encoder", encoder, "--out", str(folder / "anchors.parquet")],
        ["dry-run", source, "--encoder", encoder, "--out", str(folder / "report")],
        ["migrate", *pair],
        ["verify", *pair],
        ["verify", *pair, "--full"],
        ["sync", *pair],
        ["sync", *pair],
        ["status", target],
        ["cutover", "vecmigrate-requests-live", "--to", target],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    host = given.url.partition("://")[2]
    server = httpx.get(given.url).json()["version"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(given.url, given.count, folder)
        source, target = (f"qdrant://{host}/{c}?grpc_port={given.grpc_port}" for c in (OLD, NEW))
        for command in commands(source, target, folder):
            before = asked(given.url)
            ran = subprocess.run(
                [sys.executable, "-m", "vecmigrate", *command],
                env={**os.environ, "VECMIGRATE_STATE": str(folder / "state" / "s.sqlite")},
                capture_output=True,
                text=True,
                check=False,
            )
            requests = asked(given.url) - before
            said = " ".join([command[0], *(word for word in command if word == "--full")])
            if ran.returncode:
                sys.exit(ran.stderr)
            rows.append({"command": said, "requests": dict(requests)})
            print(said, dict(requests), flush=True)
    about = (
        f"{given.count:,} points of {SOURCE_DIMENSION} dimensions to {TARGET_DIMENSION}, gRPC, "
        f"Qdrant {server}, vecmigrate {version('vecmigrate')}, "
        f"{datetime.now(UTC).date().isoformat()}"
    )
    (RESULTS / "qdrant_requests.json").write_text(
        json.dumps({"about": about, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
