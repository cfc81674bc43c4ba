"""Makes qdrant_snapshots.zip: snapshots of a dozen points each, and what they hold.

    python tests/data/make_qdrant_snapshots.py URL CLUSTER_URL

The first server stands alone, the second one is a cluster of one node, since shard keys need one;
both are Qdrant 1.18 or newer. ``points.json`` beside the snapshots tells what each server says of
its collection: settings, and all points.
"""

from __future__ import annotations

import json
import sys
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from qdrant_client import QdrantClient, models

TARGET = Path(__file__).with_name("qdrant_snapshots.zip")
COUNT = 12
KEYS = ("europe", "asia", 7, "7")


def make_whole(client: QdrantClient, name: str) -> None:
    """A collection of three shards with all that a point can have."""
    params = models.VectorParams
    client.create_collection(
        name,
        vectors_config={
            "text": params(size=4, distance=models.Distance.EUCLID),
            "tokens": params(
                size=2,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        shard_number=3,
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)
        ),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=50),
        metadata={"owner": "search team"},
    )
    client.create_payload_index(name, "kind", models.PayloadSchemaType.KEYWORD, wait=True)
    year = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, range=False, lookup=True)
    client.create_payload_index(name, "year", year, wait=True)
    client.upsert(name, [models.PointStruct(**whole_point(row)) for row in range(COUNT)], wait=True)


def whole_point(row: int) -> dict[str, Any]:
    vectors: dict[str, Any] = {
        "text": [row / 2, 1.0, -row / 4, 0.25],
        "tokens": [[1.0, row], [0.5, 0.25]][: 1 + row % 2],
        "words": models.SparseVector(indices=[row, 1000], values=[0.5, 2.0]),
    }
    if row % 4 == 3:
        del vectors["text"]
    return {
        "id": row if row % 2 else str(uuid.UUID(int=row + 1)),
        "vector": {} if row == 5 else vectors,
        "payload": {"kind": "ab"[row % 2], "year": 1900 + row, "third": row / 3} if row else {},
    }


def make_keyed(client: QdrantClient, name: str) -> None:
    """A collection with shard keys, each id under several of them."""
    client.create_collection(
        name,
        vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT),
        shard_number=1,
        sharding_method=models.ShardingMethod.CUSTOM,
    )
    for number, key in enumerate(KEYS):
        client.create_shard_key(name, key, shards_number=1 + number % 2)
        points = [
            models.PointStruct(id=row, vector=[row, number, 1.0, 0.5], payload={"key": key})
            for row in range(3)
        ]
        client.upsert(name, points, shard_key_selector=key, wait=True)


def make_plain(client: QdrantClient, name: str) -> None:
    """A collection of one unnamed vector, whose one shard is taken by itself."""
    client.create_collection(
        name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT)
    )
    client.create_payload_index(name, "kind", models.PayloadSchemaType.KEYWORD, wait=True)
    points = [
        models.PointStruct(id=row, vector=[row, 2.0, 1.0, 0.5], payload={"kind": "a"})
        for row in range(COUNT)
    ]
    client.upsert(name, points, wait=True)


def taken(url: str, path: str) -> bytes:
    """Have a snapshot made, and return it; it does not stay at the server."""
    base = f"{url}/collections/{path}/snapshots"
    made = httpx.post(base, timeout=60).raise_for_status().json()["result"]["name"]
    content = httpx.get(f"{base}/{made}", timeout=60).raise_for_status().content
    httpx.delete(f"{base}/{made}", timeout=60).raise_for_status()
    return content


def told(client: QdrantClient, name: str, keys: Sequence[Any]) -> dict[str, Any]:
    """Return what a server says of a collection; without a key it tells each id once."""
    records = [
        record
        for key in keys
        for record in client.scroll(
            name, limit=50, with_payload=True, with_vectors=True, shard_key_selector=key
        )[0]
    ]
    info = client.get_collection(name)
    return {
        "version": client.info().version,
        "config": info.config.model_dump(mode="json", exclude_none=True),
        "payload_schema": {
            field: index.model_dump(mode="json", exclude_none=True, exclude={"points"})
            for field, index in info.payload_schema.items()
        },
        "points": [record.model_dump(mode="json") for record in records],
    }


def main(url: str, cluster: str) -> None:
    held: dict[str, Any] = {}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, make, at, path in (
            ("whole", make_whole, url, ""),
            ("keyed", make_keyed, cluster, ""),
            ("shard", make_plain, url, "/shards/0"),
        ):
            client = QdrantClient(at, timeout=60, check_compatibility=False)
            collection = f"made-{name}"
            client.delete_collection(collection)
            make(client, collection)
            held[name] = told(client, collection, KEYS if name == "keyed" else (None,))
            archive.writestr(f"{name}.snapshot", taken(at, f"{collection}{path}"))
            client.delete_collection(collection)
        archive.writestr("points.json", json.dumps(held, indent=1))
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
