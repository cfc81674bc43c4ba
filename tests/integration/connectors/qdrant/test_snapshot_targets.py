"""A target made from a snapshot is the one made from the collection: points, keys, settings.

At a real server the snapshots are its own; at the loopback server the collections of
tests/data/qdrant_snapshots.zip are made again, of which that file has a real server's snapshots.
"""

from __future__ import annotations

import json
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from support.qdrant.cases import CASES
from support.qdrant.migrating import Reversal, settings
from support.qdrant.places import SERVER, Place, need_shard_keys, open_place

from vecmigrate import migrate, open_source
from vecmigrate.points.canonical import same_within

DATA = Path(__file__).parents[3] / "data" / "qdrant_snapshots.zip"
HELD: dict[str, Any] = json.loads(zipfile.ZipFile(DATA).read("points.json"))
KEYS = ("europe", "asia", 7, "7")
SIZE, COUNT, PAGE = 16, 600, 200
STORED_ULPS = 8
INDEXES = next(case.indexes for case in CASES if case.feature == "payload indexes")
REAL = pytest.mark.skipif(not SERVER, reason="VECMIGRATE_TEST_QDRANT_URL names no Qdrant server")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for what is unpacked, which each test leaves empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert list(folder.glob("vecmigrate-*")) == []


def points_of(client: QdrantClient, name: str) -> dict[tuple[Any, Any], models.Record]:
    """All points with all that they have, by shard key and id."""
    found: dict[tuple[Any, Any], models.Record] = {}
    custom = client.get_collection(name).config.params.sharding_method
    for key in KEYS if custom == models.ShardingMethod.CUSTOM else (None,):
        offset: Any = None
        while True:
            page, offset = client.scroll(
                name, limit=50, offset=offset, with_payload=True, with_vectors=True,
                shard_key_selector=key,
            )  # fmt: skip
            for record in page:
                found[key, record.id] = record
            if offset is None:
                break
    return found


def same_value(ours: Any, theirs: Any) -> bool:
    """Compare vectors, which the server tells as float32, whatever digits it writes."""
    if isinstance(ours, models.SparseVector):
        return ours.indices == theirs.indices and same_value(ours.values, theirs.values)
    return np.array_equal(np.asarray(ours, np.float32), np.asarray(theirs, np.float32))


def assert_same(client: QdrantClient, ours: str, theirs: str, count: int) -> None:
    """Assert that two collections have the same settings and points."""
    assert settings(client, theirs) == settings(client, ours)
    first, second = points_of(client, ours), points_of(client, theirs)
    assert len(first) == count
    assert first.keys() == second.keys()
    for point, one in first.items():
        other = second[point]
        assert same_within(one.payload or {}, other.payload or {}, STORED_ULPS), point
        a, b = named(one), named(other)
        assert a.keys() == b.keys(), point
        for name, vector in a.items():
            assert same_value(vector, b[name]), (point, name)


def named(record: models.Record) -> dict[str, Any]:
    vector: Any = record.vector
    if vector is None:
        return {}
    return vector if isinstance(vector, dict) else {"": vector}


def held(uri: str) -> tuple[dict[str, Any], dict[Any, list[Any]]]:
    """What a collection in a directory says of itself, and all its points."""
    found: dict[Any, list[Any]] = {}
    with open_source(uri) as source:
        for batch in source.whole_batches(100):
            rows = np.split(batch.vectors, np.cumsum(batch.each_count())[:-1])
            extras = batch.extras or [{}] * len(batch)
            for i, own, payload, extra in zip(
                batch.ids.tolist(), rows, batch.each_payload(), extras, strict=True
            ):
                found[i] = [own.tobytes(), payload, extra]
        return dict(source.describe().settings), found


def assert_directories_same(ours: str, theirs: str, count: int) -> None:
    (said, first), (also, second) = held(ours), held(theirs)
    assert also == said
    assert len(first) == count
    assert first.keys() == second.keys()
    for point, (own, payload, extra) in first.items():
        assert second[point][0] == own, point
        assert same_within(payload, second[point][1], STORED_ULPS), point
        assert second[point][2] == extra, point


def test_targets_of_the_snapshots_beside_the_tests(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA) as archive:
        archive.extractall(tmp_path)
    for wire in ("rest", "grpc"):
        with open_place(wire, tmp_path) as served, served.client() as client:
            for name, vector in (("whole", "vector=text"), ("keyed", "")):
                make_again(client, name)
                live = served.uri(name, vector)
                taken = f"qdrant-snapshot:{tmp_path}/{name}.snapshot?{vector}&of={quoted(live)}"
                compare_targets(served, client, name, [live, taken.replace("?&", "?")], 12, 4)


def quoted(uri: str) -> str:
    return uri.replace("&", "%26")


def make_again(client: QdrantClient, name: str) -> None:
    """Make the collection that a snapshot beside the tests is of."""
    held, config = HELD[name], HELD[name]["config"]
    params = config["params"]
    client.create_collection(
        name,
        vectors_config=params["vectors"]
        if "size" not in params["vectors"]
        else models.VectorParams(**params["vectors"]),
        sparse_vectors_config=params.get("sparse_vectors"),
        shard_number=params["shard_number"],
        sharding_method=params.get("sharding_method"),
        on_disk_payload=params["on_disk_payload"],
        quantization_config=config.get("quantization_config"),
        strict_mode_config=config.get("strict_mode_config"),
        metadata=config.get("metadata"),
    )
    keys = sorted({r["shard_key"] for r in held["points"] if r["shard_key"] is not None}, key=str)
    for key in keys:
        client.create_shard_key(name, key, shards_number=1 + KEYS.index(key) % 2)
    for field, index in held["payload_schema"].items():
        client.create_payload_index(name, field, index.get("params") or index["data_type"])
    for record in held["points"]:
        point = models.PointStruct(**{n: record[n] for n in ("id", "vector", "payload")})
        client.upsert(name, [point], wait=True, shard_key_selector=record["shard_key"])


def compare_targets(
    served: Place, client: QdrantClient, old: str, sources: list[str], count: int, size: int = SIZE
) -> None:
    """Migrate each source to the server, and compare the targets and the collection."""
    made = []
    for source in sources:
        made.append(served.name("new"))
        result = migrate(source, served.uri(made[-1]), Reversal(size))
        assert (result.written, result.skipped_ids, result.notes) == (count, [], ())
    assert settings(client, made[0]) == settings(client, old)
    for other in made[1:]:
        assert_same(client, made[0], other, count)


@REAL
@pytest.mark.parametrize("wire", ["server", "server-grpc"])
@pytest.mark.parametrize("keys", [(None,), KEYS], ids=["plain", "keyed"])
def test_targets_of_a_real_servers_snapshots(
    keys: tuple[Any, ...], wire: str, tmp_path: Path
) -> None:
    with open_place(wire, tmp_path) as served, served.client() as client:
        if keys == KEYS:
            need_shard_keys(served)
        name = served.name("old")
        # By gRPC a server tells an integer beyond 63 bits as a float.
        count = make_rich(client, name, keys, most=2 ** (62 if served.wire == "grpc" else 63))
        live = served.uri(name, "vector=text")
        file = tmp_path / "taken.snapshot"
        file.write_bytes(taken(name))
        sources = [
            live,
            f"qdrant-snapshot:{file}?vector=text&of={quoted(live)}",
            live.replace("qdrant", "qdrant-snapshot", 1),
        ]
        compare_targets(served, client, name, sources, count)
        assert client.list_snapshots(name) == []
        if keys == (None,):
            places = [f"qdrant-edge:{tmp_path}/{n}" for n in range(len(sources))]
            for source, place in zip(sources, places, strict=True):
                assert migrate(source, place, Reversal(SIZE)).written == count
            for place in places[1:]:
                assert_directories_same(places[0], place, count)


def taken(name: str) -> bytes:
    """Have the real server make a snapshot, and return it; it does not stay there."""
    base = f"{SERVER}/collections/{name}/snapshots"
    made = httpx.post(base, timeout=60).raise_for_status().json()["result"]["name"]
    content = httpx.get(f"{base}/{made}", timeout=60).raise_for_status().content
    httpx.delete(f"{base}/{made}", timeout=60).raise_for_status()
    return content


def make_rich(client: QdrantClient, name: str, keys: tuple[Any, ...], most: int) -> int:
    """Make a collection with all that one can have, and return how many points it has."""
    scalar = models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
    )
    params = models.VectorParams
    client.create_collection(
        name,
        vectors_config={
            "text": params(size=SIZE, distance=models.Distance.COSINE, quantization_config=scalar,
                           hnsw_config=models.HnswConfigDiff(m=8, payload_m=4)),
            "image": params(size=5, distance=models.Distance.EUCLID, on_disk=True),
            "half": params(size=6, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16),
            "bytes": params(size=4, distance=models.Distance.MANHATTAN,
                            datatype=models.Datatype.UINT8),
            "tokens": params(size=4, distance=models.Distance.COSINE,
                             multivector_config=models.MultiVectorConfig(
                                 comparator=models.MultiVectorComparator.MAX_SIM)),
        },
        sparse_vectors_config={
            "words": models.SparseVectorParams(
                modifier=models.Modifier.IDF,
                index=models.SparseIndexParams(on_disk=True, full_scan_threshold=99),
            ),
            "plain": models.SparseVectorParams(),
        },
        shard_number=2,
        sharding_method=None if keys == (None,) else models.ShardingMethod.CUSTOM,
        hnsw_config=models.HnswConfigDiff(m=12, ef_construct=50, full_scan_threshold=100),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10, flush_interval_sec=2),
        wal_config=models.WalConfigDiff(wal_capacity_mb=4),
        quantization_config=models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(always_ram=True)
        ),
        on_disk_payload=True,
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=700),
        metadata={"owner": "search team", "weights": [0.1, 1 / 3]},
    )  # fmt: skip
    for key in keys:
        if key is not None:
            client.create_shard_key(name, key, shards_number=1 + KEYS.index(key) % 2)
    for field, schema in INDEXES.items():
        client.create_payload_index(name, field, schema, wait=True)
    rng = np.random.default_rng(0)
    for number, key in enumerate(keys):
        for start in range(0, COUNT, PAGE):
            points = [rich_point(rng, row, number, most) for row in range(start, start + PAGE)]
            client.upsert(name, points, wait=True, shard_key_selector=key)
        # What was overwritten and deleted is not to come back.
        client.upsert(name, [rich_point(rng, 3, number, most)], wait=True, shard_key_selector=key)
        client.delete(name, [5], wait=True, shard_key_selector=key)
    return (COUNT - 1) * len(keys)


def rich_point(rng: np.random.Generator, row: int, number: int, most: int) -> models.PointStruct:
    """A point; the same row has the same id under each shard key, and other content."""
    vectors: dict[str, Any] = {
        "text": rng.standard_normal(SIZE).tolist(),
        "image": rng.standard_normal(5).tolist(),
        "half": rng.standard_normal(6).tolist(),
        "bytes": rng.integers(0, 256, 4).tolist(),
        "tokens": rng.standard_normal((1 + row % 4, 4)).tolist(),
        "words": models.SparseVector(indices=[row, 5000 + number], values=rng.random(2).tolist()),
        "plain": models.SparseVector(indices=[row % 7], values=[1 / (1 + row)]),
    }
    kept = [n for at, n in enumerate(vectors) if (row + at) % 5] if row % 3 else list(vectors)
    return models.PointStruct(
        id=row if row % 2 else str(uuid.UUID(int=2**64 * row + 1)),
        vector={} if row % 50 == 1 else {n: vectors[n] for n in kept},
        payload={**rich_payload(rng, row, number), "most": most + row} if row % 11 else {},
    )


def rich_payload(rng: np.random.Generator, row: int, number: int) -> dict[str, Any]:
    return {
        "text": f"Qdrant says what the text {row} of {number} is",
        "city": ["Graz", "Wien", "Łódź"][row % 3],
        "n": row - 700,
        "price": float(rng.random()),
        "at": f"2026-01-{1 + row % 28:02d}T12:00:00Z",
        "place": {"lon": float(rng.uniform(-180, 180)), "lat": float(rng.uniform(-90, 90))},
        "flag": bool(row % 2),
        "key": str(uuid.UUID(int=row)),
        "plain": [f"k{row % 5}", "all"],
        "deep": {"list": [row, None, {"x": float(rng.standard_normal()) * 1e-9}], "": {}, "ü.": []},
    }
