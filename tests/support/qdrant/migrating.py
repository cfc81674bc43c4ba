"""Makes the collections of support.qdrant.cases, migrates them, and reads all that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from qdrant_client import QdrantClient, models
from vecmigrate_qdrant.marks import foreign_metadata

from support.qdrant.cases import COUNT, SIZE, Case, params
from support.qdrant.places import Place
from vecmigrate import Translator
from vecmigrate.connector import Vectors


class Reversal(Translator):
    """Turns each vector's components round: exact in floating point, and its own inverse."""

    def __init__(self, dimension: int = SIZE) -> None:
        self.source_dim_ = self.target_dim_ = dimension

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        return self

    def transform(self, X: Vectors, *, out: Vectors | None = None) -> Vectors:
        return np.ascontiguousarray(X[:, ::-1])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {}, {"dimension": self.source_dim_}

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Self:
        return cls(parameters["dimension"])


def make(place: Place, case: Case, name: str, count: int = COUNT) -> None:
    with place.client() as client:
        client.create_collection(name, **{"vectors_config": params(), **case.create})
        if place.kind == "embedded":
            # It commits each point by itself, with an fsync or more.
            storage = client._client.collections[name].storage.storage
            for pragma in ("journal_mode=WAL", "synchronous=OFF"):
                storage.execute(f"PRAGMA {pragma}").fetchall()
        for key in case.shard_keys:
            client.create_shard_key(name, key, shards_number=2)
        for path, schema in case.indexes.items():
            client.create_payload_index(name, path, field_schema=schema)
        rows: dict[int | str | None, list[int]] = {}
        for row in range(count):
            rows.setdefault(case.shard_key_of(row), []).append(row)
        for key, mine in rows.items():
            for start in range(0, len(mine), 500):
                points = [point(case, row) for row in mine[start : start + 500]]
                client.upsert(name, points, shard_key_selector=key)
        if case.change:
            client.update_collection(name, **case.change)


def point(case: Case, row: int) -> models.PointStruct:
    vectors = case.vectors(row)
    vector = vectors[""] if list(vectors) == [""] else vectors
    return models.PointStruct(id=case.id_of(row), vector=vector, payload=case.payload_of(row))


def settings(client: QdrantClient, name: str) -> dict[str, Any]:
    """All that the store says of a collection's configuration, vecmigrate's mark left out."""
    info = client.get_collection(name)
    config: dict[str, Any] = info.config.model_dump(mode="json", exclude_none=True)
    config["metadata"] = foreign_metadata(info)
    config["payload_schema"] = {
        path: index.model_dump(mode="json", exclude={"points"}, exclude_none=True)
        for path, index in info.payload_schema.items()
    }
    if info.config.params.sharding_method == models.ShardingMethod.CUSTOM:
        cluster = client.collection_cluster_info(name)
        shards = [*cluster.local_shards, *cluster.remote_shards]
        config["shards"] = sorted(str(shard.shard_key) for shard in shards)
    return config


def records(client: QdrantClient, name: str) -> dict[int | str, models.Record]:
    """All points with all that they have."""
    return dict(_records(client, name))


def _records(client: QdrantClient, name: str) -> list[tuple[int | str, models.Record]]:
    found: list[tuple[int | str, models.Record]] = []
    offset: Any = None
    strict = client.get_collection(name).config.strict_mode_config
    limit = (strict and strict.max_query_limit) or COUNT
    while True:
        page, offset = client.scroll(
            name, limit=limit, offset=offset, with_payload=True, with_vectors=True
        )
        found += [(r.id if isinstance(r.id, int) else str(r.id), r) for r in page]
        if offset is None:
            return found


def named(record: models.Record) -> dict[str, Any]:
    """A point's vectors by name."""
    vector: Any = record.vector
    if vector is None:
        return {}
    return dict(vector) if isinstance(vector, dict) else {"": vector}


def chosen(case: Case) -> str:
    names = list(case.vectors(1))
    return case.option.removeprefix("vector=") or names[0]


def turned(vector: Any) -> Any:
    return np.asarray(vector, np.float32)[..., ::-1]


def compare(old: models.Record, new: models.Record, case: Case, *, back: bool = False) -> None:
    """Assert that ``new`` is ``old`` with the chosen vector turned round, and nothing else."""
    ours, theirs = named(old), named(new)
    assert set(ours) == set(theirs)
    assert (old.payload or {}) == (new.payload or {})
    assert old.shard_key == new.shard_key
    for name, vector in ours.items():
        if isinstance(vector, models.SparseVector):
            assert vector == theirs[name]
            continue
        translated = name == chosen(case) and not back
        expected = turned(vector) if translated else np.asarray(vector, np.float32)
        found = np.asarray(theirs[name], np.float32)
        if not case.rounding:
            np.testing.assert_array_equal(found, expected)
            continue
        assert np.linalg.norm(found - expected) <= case.rounding * np.linalg.norm(expected)
