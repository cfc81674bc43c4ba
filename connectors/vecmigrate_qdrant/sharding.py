"""Custom sharding: which shard keys a collection has, and a new one with the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import MismatchError, WriteError
from vecmigrate_qdrant.access import Access


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
        Where the settings are none that :func:`read_shard_keys` gives.
    """
    try:
        return _KEYS.validate_python(settings.get("shard_keys") or [])
    except ValidationError as error:
        raise MismatchError(
            f"the shard keys for the new Qdrant collection are not understood ({error})",
            remedy="Use those that the description of a Qdrant source holds.",
        ) from error


def create_shard_keys(access: Access, collection: str, keys: list[KeyedShards]) -> None:
    """Create the keys of a collection that was just made.

    Raises
    ------
    MismatchError
        If the server is not in cluster mode, which alone has shard keys.
    """
    for wanted in keys:
        try:
            access.run(partial(_create, collection=collection, wanted=wanted))
        except WriteError as refused:
            if _NO_CLUSTER in refused.message:
                raise MismatchError(
                    f"the Qdrant server {access.place} keeps no shard keys, since it is not in "
                    "cluster mode, and Qdrant's ids cannot be KEY/ID",
                    remedy="Name a server in cluster mode, or have a target of another store take "
                    "ids as KEY/ID by --id-with-key.",
                ) from refused
            # A retry is refused where the first try came through and only its answer was lost.
            if wanted.model_dump() not in read_shard_keys(access, collection):
                raise


def _create(client: QdrantBase, *, collection: str, wanted: KeyedShards) -> bool:
    return client.create_shard_key(collection, wanted.key, shards_number=wanted.shards_number)
