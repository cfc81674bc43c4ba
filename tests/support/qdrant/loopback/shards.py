"""The collections of the loopback server: each a shard of the engine, or one for each shard key."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from qdrant_client import models

from support.qdrant.loopback.engine import PointId, Shard, folder
from support.qdrant.loopback.errors import RefusedError
from support.qdrant.loopback.strict import Limits, conditions

ShardKey = int | str
Points = models.Batch | Sequence[models.PointStruct]


class Collection:
    """One collection: with custom sharding, an id is a point's within its shard key alone.

    Attributes
    ----------
    config
        As the server tells it.
    keys
        The numbers of the shards of each shard key.
    """

    def __init__(self, path: Any, config: models.CollectionConfig) -> None:
        self.config = config
        self.limits = Limits()
        self.indexes: dict[str, models.PayloadIndexInfo] = {}
        self.keys: dict[ShardKey, list[int]] = {}
        self.status: models.CollectionStatus | None = None
        self._paths = (path / str(number) for number in count())
        self._shards: dict[ShardKey | None, Shard] = {}
        self.custom = config.params.sharding_method == models.ShardingMethod.CUSTOM
        path.mkdir()
        if not self.custom:
            self._shards[None] = Shard(next(self._paths), config)

    def configure(self, *, anew: bool) -> None:
        """Note a change of the settings, and pass it to the engine if it is to know of it."""
        self.status = None
        for shard in self._shards.values() if anew else ():
            shard.configure(self.config)

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()

    # Shard keys

    def create_key(self, request: models.CreateShardingKey) -> None:
        key = request.shard_key
        if not self.custom:
            raise RefusedError(
                400, "Bad request: Shard Key cannot be created with Auto sharding method"
            )
        if key in self.keys:
            raise RefusedError(400, f"Bad request: Sharding key {key} already exists")
        self._shards[key] = Shard(next(self._paths), self.config)
        for field, index in self.indexes.items():
            self._shards[key].index(field, index.data_type)
        first = sum(map(len, self.keys.values())) + 1
        shards = request.shards_number or self.config.params.shard_number or 1
        self.keys[key] = list(range(first, first + shards))

    def delete_key(self, key: ShardKey) -> None:
        if key not in self.keys:
            raise RefusedError(400, f"Bad request: Shard key {key} does not exist")
        del self.keys[key]
        self._shards.pop(key).close()

    def _written(self, key: ShardKey | None) -> Shard:
        """The shard that a change goes to: one, for there are no changes without a key."""
        if key in self._shards:
            return self._shards[key]
        if key is None:
            raise RefusedError(400, "Wrong input: Shard key not specified")
        raise RefusedError(400, f"Wrong input: Shard key {_quoted(key)} not found")

    def _read(self, selector: Any) -> list[tuple[ShardKey | None, Shard]]:
        """The shards that a question goes to: all of them without a key."""
        if selector is None:
            return list(self._shards.items())
        if isinstance(selector, models.ShardKeyWithFallback):
            wanted = selector.target if selector.target in self._shards else selector.fallback
            selector = [wanted]
        chosen = selector if isinstance(selector, list) else [selector]
        for key in chosen:
            if key not in self._shards:
                raise RefusedError(400, f"Bad request: Shard key {_quoted(key)} not found")
        return [(key, self._shards[key]) for key in chosen]

    # Writing

    def upsert(self, points: Points, key: ShardKey | None = None) -> None:
        listed = list(_listed(points))
        shard = self._written(key)
        self.limits.written(key, len(listed))
        shard.upsert(listed)

    def new_among(self, points: Points, key: ShardKey | None) -> list[models.PointStruct]:
        """Return those points that are not there."""
        listed = list(_listed(points))
        held = {record.id for record in self._written(key).retrieve([p.id for p in listed])}
        return [point for point in listed if point.id not in held]

    def change(self, what: str, key: ShardKey | None, chosen: Any, *more: Any) -> None:
        """Carry out another change of points that are there, by the name of the shard's method."""
        shard = self._written(key)
        self.limits.written(key, _affected(shard, chosen))
        getattr(shard, what)(chosen, *more)

    def each(self, what: str, *arguments: Any) -> None:
        """Change all shards, as by a new index or vector."""
        for shard in self._shards.values():
            getattr(shard, what)(*arguments)

    # Reading

    def retrieve(
        self, ids: Sequence[PointId], payload: Any = None, vectors: Any = None, keys: Any = None
    ) -> list[models.Record]:
        """Points in the order of their ids; of one that is under several keys any one."""
        found: dict[PointId, models.Record] = {}
        for key, shard in self._read(keys):
            self.limits.read(key, len(ids))
            for record in shard.retrieve(ids, payload, vectors):
                found[record.id] = _told(record, key)
        return [found.pop(i) for i in ids if i in found]

    def scroll(
        self, request: models.ScrollRequest, keys: Any = None
    ) -> tuple[list[models.Record], PointId | None]:
        """Points in the order of their ids; of one that is under several keys any one."""
        limit = 10 if request.limit is None else request.limit
        if limit < 1:
            raise RefusedError(400, "Bad request: Limit cannot be 0")
        asked = request.model_copy(update={"limit": limit + 1})
        found: list[models.Record] = []
        for key, shard in self._read(keys):
            self.limits.read(key, 1 + conditions(request.filter))
            found += [_told(record, key) for record in shard.scroll(asked)[0]]
        if request.order_by is not None:
            falling = getattr(request.order_by, "direction", None) == models.Direction.DESC
            found.sort(key=lambda r: (r.order_value, order(r.id)), reverse=falling)
            return found[:limit], None
        by_id = {record.id: record for record in found}
        records = sorted(by_id.values(), key=lambda r: order(r.id))
        following = records[limit].id if len(records) > limit else None
        return records[:limit], following

    def count(self, request: models.CountRequest, keys: Any = None) -> int:
        """How many points there are: as many as an id has keys."""
        shards = self._read(keys)
        for key, _ in shards:
            self.limits.read(key, 1 + conditions(request.filter))
        return sum(shard.count(request) for _, shard in shards)

    def query(self, requests: Sequence[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
        for key, _ in self._read(None):
            self.limits.read(key, sum(1 + conditions(r.filter) for r in requests))
        return [self._query(request) for request in requests]

    def _query(self, request: models.QueryRequest) -> list[models.ScoredPoint]:
        # Distances rise, similarities fall; a point of several keys is found under each of them.
        sign = 1 if self._rises(request.using or "") else -1
        found = [
            point if key is None else point.model_copy(update={"shard_key": key})
            for key, shard in self._read(request.shard_key)
            for point in shard.query(request)
        ]
        found.sort(key=lambda point: sign * point.score)
        return found[: 10 if request.limit is None else request.limit]

    def _rises(self, name: str) -> bool:
        vectors = self.config.params.vectors
        params = vectors if isinstance(vectors, models.VectorParams) else (vectors or {}).get(name)
        return params is not None and params.distance in (
            models.Distance.EUCLID,
            models.Distance.MANHATTAN,
        )

    def is_stalled(self) -> bool:
        """True if there is something to index and the settings allow no thread for it."""
        optimizer = self.config.optimizer_config
        threshold = 1024 * (optimizer.indexing_threshold or 0)
        forbidden = optimizer.max_optimization_threads == 0
        return forbidden and 0 < threshold < self.vector_bytes()

    def tell(self) -> dict[str, Any]:
        """What the engine counts."""
        allowed = self.config.optimizer_config.max_optimization_threads != 0
        told = [shard.tell(optimize=allowed) for shard in self._shards.values()]
        return {
            name: sum(getattr(each, name) for each in told)
            for name in ("points_count", "indexed_vectors_count", "segments_count")
        }

    def vector_bytes(self) -> int:
        """About how much room the vectors take."""
        vectors = self.config.params.vectors or {}
        each = [vectors] if isinstance(vectors, models.VectorParams) else vectors.values()
        points = sum(shard.count(models.CountRequest()) for shard in self._shards.values())
        return 4 * points * sum(params.size for params in each)

    def indexed(self, field: str) -> int:
        """How many points have a field that is indexed."""
        told = [shard.tell(optimize=False).payload_schema for shard in self._shards.values()]
        return sum(each[field].points for each in told if field in each)

    def cluster(self) -> models.CollectionClusterInfo:
        counts = {key: shard.count(models.CountRequest()) for key, shard in self._shards.items()}
        numbers: dict[ShardKey | None, list[int]] = {**self.keys} if self.custom else {None: [0]}
        local = [
            models.LocalShardInfo(
                shard_id=shard,
                shard_key=key,
                # Which of a key's shards has a point is no matter to anybody.
                points_count=counts[key] if shard == shards[0] else 0,
                state=models.ReplicaState.ACTIVE,
            )
            for key, shards in numbers.items()
            for shard in shards
        ]
        return models.CollectionClusterInfo(
            peer_id=1,
            shard_count=len(local),
            local_shards=local,
            remote_shards=[],
            shard_transfers=[],
        )


class Collections:
    """All collections, without networks and limits: to arrange and to look at from tests."""

    def __init__(self) -> None:
        self._folder = folder()
        self._numbers = count()
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def __getitem__(self, name: str) -> Collection:
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def collection_exists(self, name: str) -> bool:
        return self.aliases.get(name, name) in self.collections

    def create(self, name: str, config: models.CollectionConfig) -> Collection:
        made = Collection(self._folder / str(next(self._numbers)), config)
        self.collections[name] = made
        return made

    def delete_collection(self, name: str) -> bool:
        if name not in self.collections:
            return False
        self.collections.pop(name).close()
        self.aliases = {alias: of for alias, of in self.aliases.items() if of != name}
        return True

    def get_collections(self) -> models.CollectionsResponse:
        found = [models.CollectionDescription(name=name) for name in self.collections]
        return models.CollectionsResponse(collections=found)

    def get_aliases(self) -> models.CollectionsAliasesResponse:
        found = [
            models.AliasDescription(alias_name=alias, collection_name=name)
            for alias, name in self.aliases.items()
        ]
        return models.CollectionsAliasesResponse(aliases=found)

    def change_aliases(self, actions: Sequence[models.AliasOperations]) -> bool:
        changed = dict(self.aliases)
        for action in actions:
            match action:
                case models.CreateAliasOperation():
                    told = action.create_alias
                    self[told.collection_name]
                    changed[told.alias_name] = told.collection_name
                case models.DeleteAliasOperation():
                    changed.pop(action.delete_alias.alias_name, None)
                case models.RenameAliasOperation():
                    renamed = action.rename_alias
                    if renamed.old_alias_name not in changed:
                        raise RefusedError(
                            404, f"Not found: Alias {renamed.old_alias_name} does not exists!"
                        )
                    changed[renamed.new_alias_name] = changed.pop(renamed.old_alias_name)
        self.aliases = changed
        return True

    def upsert(self, name: str, points: Points, key: ShardKey | None = None) -> None:
        self[name].upsert(points, key)

    def delete(self, name: str, ids: Sequence[PointId], key: ShardKey | None = None) -> None:
        self[name].change("delete", key, models.PointIdsList(points=list(ids)))

    def scroll(
        self, name: str, limit: int = 10, *, with_payload: Any = True, with_vectors: Any = False
    ) -> tuple[list[models.Record], PointId | None]:
        asked = models.ScrollRequest(
            limit=limit, with_payload=with_payload, with_vector=with_vectors
        )
        return self[name].scroll(asked)


def order(point_id: PointId) -> tuple[bool, int, str]:
    """The server's order of ids: integers, then UUIDs."""
    return (True, 0, point_id) if isinstance(point_id, str) else (False, point_id, "")


def _affected(shard: Shard, chosen: Any) -> int:
    if isinstance(chosen, models.PointIdsList):
        return len(chosen.points)
    if isinstance(chosen, models.FilterSelector):
        return shard.count(models.CountRequest(filter=chosen.filter, exact=False))
    return len(chosen)


def _listed(points: Points) -> Iterable[models.PointStruct]:
    if not isinstance(points, models.Batch):
        return points
    vectors: Any = points.vectors
    if isinstance(vectors, dict):
        rows = [dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True)]
        vectors = rows or [{}] * len(points.ids)
    payloads = points.payloads or [None] * len(points.ids)
    return [
        models.PointStruct(id=i, vector=vector, payload=payload)
        for i, vector, payload in zip(points.ids, vectors, payloads, strict=True)
    ]


def _told(record: models.Record, key: ShardKey | None) -> models.Record:
    return record if key is None else record.model_copy(update={"shard_key": key})


def _quoted(key: ShardKey) -> str:
    return f'"{key}"' if isinstance(key, str) else str(key)
