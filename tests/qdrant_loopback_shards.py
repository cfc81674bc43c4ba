"""Custom sharding for the loopback server: the local engine itself has no shards."""

from __future__ import annotations

from collections.abc import Iterable

from qdrant_client import models


class Shards:
    """The shard keys of one collection, and which point is where.

    A point is in one place at a time; a real server would hold it once for each key.
    """

    def __init__(self) -> None:
        self.keys: dict[int | str, list[int]] = {}
        self.placed: dict[int | str, int | str] = {}

    def create(self, request: models.CreateShardingKey) -> None:
        if request.shard_key in self.keys:
            raise ValueError(f"Sharding key {request.shard_key} already exists")
        first = sum(map(len, self.keys.values()))
        self.keys[request.shard_key] = list(range(first, first + (request.shards_number or 1)))

    def place(self, ids: Iterable[int | str], key: object) -> None:
        if not isinstance(key, int | str) or key not in self.keys:
            raise ValueError(f"Shard key {key!r} not found: with custom sharding it must be given")
        self.placed |= dict.fromkeys(ids, key)

    def under(self, ids: list[int | str], key: object) -> list[int | str]:
        """Return those of the ids that are under a key, all of them for none."""
        return ids if key is None else [i for i in ids if self.placed.get(i) == key]

    def tell(self, records: Iterable[models.Record]) -> list[models.Record]:
        return [r.model_copy(update={"shard_key": self.placed.get(r.id)}) for r in records]

    def info(self) -> models.CollectionClusterInfo:
        local = [
            models.LocalShardInfo(
                shard_id=shard,
                shard_key=key,
                points_count=0,
                state=models.ReplicaState.ACTIVE,
            )
            for key, shards in self.keys.items()
            for shard in shards
        ]
        return models.CollectionClusterInfo(
            peer_id=1,
            shard_count=len(local),
            local_shards=local,
            remote_shards=[],
            shard_transfers=[],
        )
