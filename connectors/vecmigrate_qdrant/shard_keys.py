"""Ids of collections with custom sharding: unique within a shard key only, so spelled ``KEY/ID``.

``eu/7`` is the point 7 under the key ``eu``. A key that is a number is spelled as it is (``7/5``);
a string key that could be taken for one, or begins with a quotation mark, as JSON (``"7"/5``). What
follows the last slash is the id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter
from qdrant_client import models

from vecmigrate.connector import IdArray, MismatchError, PointId, WriteError
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.ids import canonical_id
from vecmigrate_qdrant.points import ShardKey
from vecmigrate_qdrant.settings import understood

_NUMBER = re.compile(r"-?\d+")
_WHOLE = re.compile(r"0|[1-9]\d*")


def spell_id(key: ShardKey, point_id: PointId) -> str:
    """Return the one spelling of an id under a key."""
    return f"{_spell_key(key)}/{point_id}"


def spell_ids(key: ShardKey, ids: IdArray) -> IdArray:
    """Return the spellings of ``(n,)`` ids under one key, dtype object."""
    begin = f"{_spell_key(key)}/"
    spelled = np.empty(len(ids), dtype=object)
    spelled[:] = [f"{begin}{i}" for i in ids.tolist()]
    return spelled


def read_spelled(spelled: object) -> tuple[ShardKey, PointId] | None:
    """Return the key and the id of a spelling, or None if it is none."""
    if not isinstance(spelled, str):
        return None
    begin, slash, end = spelled.rpartition("/")
    key = _read_key(begin) if slash else None
    point_id = canonical_id(int(end) if _WHOLE.fullmatch(end) else end)
    return None if key is None or point_id is None else (key, point_id)


def canonical_spelling(spelled: object) -> PointId | None:
    """Return the one spelling of an id under a key, or None if it is none."""
    pair = read_spelled(spelled)
    return None if pair is None else spell_id(*pair)


def by_key(spelled: Iterable[PointId]) -> dict[ShardKey | None, list[PointId]]:
    """Return each key's ids among spellings; what is no spelling is left out."""
    found: dict[ShardKey | None, list[PointId]] = {}
    for key, point_id in filter(None, map(read_spelled, spelled)):
        found.setdefault(key, []).append(point_id)
    return found


def rows_by_key(ids: IdArray, where: str) -> dict[ShardKey, tuple[NDArray[np.intp], list[PointId]]]:
    """Return each key's positions among ``(n,)`` spelled ids, and its ids as Qdrant has them.

    Raises
    ------
    MismatchError
        If an id is no spelling, naming it.
    """
    found: dict[ShardKey, tuple[list[int], list[PointId]]] = {}
    for row, spelled in enumerate(ids.tolist()):
        pair = read_spelled(spelled)
        if pair is None:
            raise MismatchError(
                f"{where} cannot hold the id {spelled!r}: its points are under shard keys, and an "
                "id is spelled KEY/ID",
                remedy="Choose a source with shard keys, or a target without them.",
            )
        rows, plain = found.setdefault(pair[0], ([], []))
        rows.append(row)
        plain.append(pair[1])
    return {key: (np.array(rows, np.intp), plain) for key, (rows, plain) in found.items()}


def _spell_key(key: ShardKey) -> str:
    if isinstance(key, int):
        return str(key)
    return json.dumps(key) if _NUMBER.fullmatch(key) or key.startswith('"') else key


def _read_key(begin: str) -> ShardKey | None:
    if _NUMBER.fullmatch(begin):
        return int(begin)
    if not begin.startswith('"'):
        return begin
    try:
        key = json.loads(begin)
    except ValueError:
        return None
    return key if isinstance(key, str) else None


class KeyedShards(BaseModel):
    """A shard key and the number of shards behind it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: int | str
    shards_number: int


_NO_CLUSTER = "Distributed mode disabled"
_KEYS = TypeAdapter(list[KeyedShards])


def is_sharded_by_key(params: models.CollectionParams) -> bool:
    """Tell whether each point of a collection is under a shard key; ids are unique within one."""
    return params.sharding_method == models.ShardingMethod.CUSTOM


def read_shard_keys(access: Access, collection: str) -> list[JsonValue]:
    """Return the shard keys of a collection with custom sharding, as settings."""
    found = access.run(lambda client: client.collection_cluster_info(collection))
    shards: dict[int | str, set[int]] = {}
    everywhere: list[models.LocalShardInfo | models.RemoteShardInfo] = []
    everywhere += found.local_shards
    everywhere += found.remote_shards
    for shard in everywhere:
        if shard.shard_key is not None:
            shards.setdefault(shard.shard_key, set()).add(shard.shard_id)
    ordered = sorted(shards, key=lambda key: (isinstance(key, str), str(key)))
    return [KeyedShards(key=key, shards_number=len(shards[key])).model_dump() for key in ordered]


def read_key_names(access: Access, collection: str) -> list[int | str]:
    """Return the shard keys of a collection with custom sharding, in their order."""
    return key_names(read_shard_keys(access, collection))


def key_names(found: JsonValue) -> list[int | str]:
    """Return the names of what :func:`read_shard_keys` returned."""
    return [shards.key for shards in shard_keys({"shard_keys": found})]


def shard_keys(settings: Mapping[str, JsonValue]) -> list[KeyedShards]:
    """Return the shard keys to create.

    Raises
    ------
    MismatchError
        If the settings are none that :func:`read_shard_keys` gives.
    """
    with understood():
        return _KEYS.validate_python(settings.get("shard_keys") or [])


def create_shard_key(access: Access, collection: str, wanted: KeyedShards) -> None:
    """Create a key of a collection.

    Raises
    ------
    MismatchError
        If the server is not in cluster mode, which alone has shard keys.
    """
    try:
        access.run(
            lambda client: client.create_shard_key(
                collection, wanted.key, shards_number=wanted.shards_number
            )
        )
    except WriteError as refused:
        if _NO_CLUSTER in refused.message:
            raise MismatchError(
                f"the Qdrant server {access.place} keeps no shard keys, since it is not in "
                "cluster mode, and Qdrant's ids cannot be KEY/ID",
                remedy="Name a server in cluster mode, or have a target of another store take "
                "ids as KEY/ID by --id-with-key.",
            ) from refused
        # A retry is refused if the first try came through and only its answer was lost.
        if wanted.model_dump() not in read_shard_keys(access, collection):
            raise


class MadeKeys:
    """The shard keys of a target, and those that are made as points come under new ones."""

    def __init__(self, access: Access, collection: str) -> None:
        self._access, self._collection = access, collection
        self._names: set[ShardKey] | None = None

    def require(self, wanted: Iterable[ShardKey]) -> None:
        """Make those that are not there; raises as :func:`create_shard_key`."""
        if self._names is None:
            self._names = set(read_key_names(self._access, self._collection))
        for key in wanted:
            if key not in self._names:
                new = KeyedShards(key=key, shards_number=1)
                create_shard_key(self._access, self._collection, new)
                self._names.add(key)
