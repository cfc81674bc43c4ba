"""A snapshot of a server's collection, or of one of its shards, being read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

import qdrant_edge
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import InputError, name_some, told_as
from vecmigrate_qdrant.access.base import STORED_ULPS, Access, T
from vecmigrate_qdrant.access.places import SnapshotLocation
from vecmigrate_qdrant.access.shared import SharedPlaces
from vecmigrate_qdrant.edge.engine import Shard, failures
from vecmigrate_qdrant.edge.points import EdgePoints, Place, Shards, is_ascending
from vecmigrate_qdrant.edge.settings import (
    collection_config,
    collection_info,
    indexed_fields,
    payload_schema,
    read_config,
)
from vecmigrate_qdrant.location import ServerLocation
from vecmigrate_qdrant.points import Points, Shape, ShardKey
from vecmigrate_qdrant.shard_keys import is_sharded_by_key
from vecmigrate_qdrant.snapshot.archive import (
    CONFIG,
    INDEXES,
    KEYS,
    REPLICAS,
    SEGMENTS,
    VERSION,
    check_holes,
    unpack,
)
from vecmigrate_qdrant.snapshot.scratch import Scratch
from vecmigrate_qdrant.snapshot.server import remove_leftovers, take_snapshot

_WHOLE = {"Active", "ActiveRead", "Listener"}
"""States of a replica that holds all points of its shard."""

_NEWEST_COLLECTION, _NEWEST_SEGMENT = (0, 4), (0, 6)
_RELEASE = re.compile(r"(\d+)\.(\d+)")


class Snapshot:
    """An unpacked snapshot, its shards loaded.

    Raises
    ------
    InputError
        If it cannot be unpacked, is of an unknown version, or lacks points of the collection.
    """

    def __init__(self, place: Path | ServerLocation, where: str) -> None:
        self._is_to_remove = remove_leftovers()
        self._scratch = Scratch.make()
        self._loaded: dict[int, Shard] = {}
        self._where = where
        self._folder = self._scratch.path / "unpacked"
        try:
            self._folder.mkdir()
            if isinstance(place, Path):
                unpack(place, self._folder)
            else:
                downloaded = take_snapshot(place, self._scratch)
                unpack(downloaded, self._folder)
                downloaded.unlink()
            check_holes(self._folder, where)
            with failures(where, InputError):
                self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        folders = {int(p.parent.name): p.parent for p in self._folder.glob(f"*/{SEGMENTS}")}
        if not folders:
            raise InputError(f"{self._where} holds no shard", remedy="Give a Qdrant snapshot.")
        self._check_versions()
        self.keys = self._read_keys()
        self._check_replicas()
        whole = (self._folder / CONFIG).exists()
        config = self._json(CONFIG) if whole else None
        if config is not None:
            self._check_complete(config, set(folders))
        for number, folder in sorted(folders.items()):
            self._loaded[number] = Shard(qdrant_edge.EdgeShard.load(str(folder)))
        first = folders[min(folders)]
        indexes = self._json(INDEXES)["schema"] if whole else indexed_fields(first)
        self.schema = payload_schema(indexes)
        self.config = (
            collection_config(read_config(first))
            if config is None
            else models.CollectionConfig.model_validate(config)
        )

    @property
    def shards(self) -> Shards:
        """The shards by their keys, each key's in the order of their numbers."""
        if not is_sharded_by_key(self.config.params):
            return {None: list(self._loaded.values())}
        found: dict[ShardKey | None, list[Shard]] = {}
        for number, shard in self._loaded.items():
            found.setdefault(self.keys[number], []).append(shard)
        return found

    def close(self) -> None:
        """Close the shards and remove what was unpacked."""
        for shard in self._loaded.values():
            shard.close()
        self._loaded = {}
        self._scratch.close()
        if self._is_to_remove:
            self._is_to_remove = remove_leftovers()

    def _json(self, name: str) -> Any:
        return json.loads((self._folder / name).read_text())

    def _read_keys(self) -> dict[int, ShardKey]:
        if not (self._folder / KEYS).exists():
            return {}
        return {number: pair["key"] for pair in self._json(KEYS) for number in pair["shard_ids"]}

    def _check_versions(self) -> None:
        version = self._folder / VERSION
        checked = [(version, _NEWEST_COLLECTION)] if version.exists() else []
        segments = self._folder.glob(f"*/{SEGMENTS}/*/{VERSION}")
        for file, newest in [*checked, *((path, _NEWEST_SEGMENT) for path in segments)]:
            text = file.read_text().strip()
            found = _RELEASE.match(text)
            if found is None or (int(found[1]), int(found[2])) > newest:
                raise InputError(
                    f"{self._where} is of a storage version that is not known here ({text[:20]!r})",
                    remedy="Read it by a newer vecmigrate, or migrate from the server itself.",
                )

    def _check_replicas(self) -> None:
        """Make sure that no shard was on its way to or from another node."""
        for file in self._folder.glob(f"*/{REPLICAS}"):
            found = json.loads(file.read_text())
            states = dict(found["peers"])
            mine = states.get(str(found["this_peer_id"]), "Active")
            moving = [s for s in (mine, *states.values()) if s.startswith("Resharding")]
            if found["is_local"] and (moving or mine not in _WHOLE):
                raise InputError(
                    f"shard {file.parent.name} of {self._where} was not whole when the snapshot "
                    f"was made (it was {(moving or [mine])[0]})",
                    remedy="Take a snapshot once the shard is active.",
                )

    def _check_complete(self, config: Mapping[str, Any], there: set[int]) -> None:
        """Make sure that each shard of the collection has its points here."""
        params = config["params"]
        keyed = params.get("sharding_method") == "custom"
        wanted = set(self.keys) if keyed else set(range(params["shard_number"]))
        if missing := sorted(wanted - there):
            raise InputError(
                f"{self._where} lacks the points of shard {name_some(missing)}: they are on "
                "another node of the cluster",
                remedy="Migrate from the server itself, or from a node that has all shards.",
            )


_places: SharedPlaces[Snapshot] = SharedPlaces(Snapshot.close)


def _identity(place: Path | ServerLocation) -> Hashable:
    """Tell what two openings of the same snapshot have in common."""
    if not isinstance(place, Path):
        return place
    remedy = "Check the path and its permissions."
    with told_as(InputError, f"the snapshot {place} cannot be read", remedy, (OSError,)):
        status = place.stat()
    if not S_ISREG(status.st_mode):
        raise InputError(
            f"the snapshot {place} is no file",
            remedy="Give the file that the server made, as COLLECTION-….snapshot.",
        )
    return place.resolve(), status.st_size, status.st_mtime_ns


class SnapshotAccess(Access):
    """A snapshot's collection, which is only read.

    Raises
    ------
    InputError
        If the file is not there, or as :class:`Snapshot`.
    """

    embedded = True
    payload_ulps = STORED_ULPS

    def __init__(self, location: SnapshotLocation) -> None:
        place = location.place
        super().__init__(str(place.parent if isinstance(place, Path) else place), InputError)
        self._where = str(place) if isinstance(place, Path) else f"{place}/{place.collection}"
        made = partial(Snapshot, place, self._where)
        self._client = _SnapshotClient(_places.take(self._held, _identity(place), made))

    def run(self, request: Callable[[QdrantBase], T]) -> T:
        with failures(self._where, InputError):
            return request(self._client)

    def points(self, collection: str, shape: Shape) -> Points:
        snapshot = self._client.snapshot
        ascending = is_ascending(snapshot.config.params, shape.vector)
        shards = snapshot.shards
        return EdgePoints(Place(self._where, InputError, lambda: shards, ascending), shape)


class _SnapshotClient(QdrantBase):
    """What qdrant-client asks of a Qdrant, of the one collection of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        return True

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        shards = [shard for each in self.snapshot.shards.values() for shard in each]
        infos = [shard.ask(lambda engine: engine.info()) for shard in shards]
        return collection_info(infos, self.snapshot.config, self.snapshot.schema)

    def collection_cluster_info(self, collection_name: str) -> models.CollectionClusterInfo:
        local = [
            models.LocalShardInfo(
                shard_id=number, shard_key=key, points_count=0, state=models.ReplicaState.ACTIVE
            )
            for number, key in self.snapshot.keys.items()
        ]
        return models.CollectionClusterInfo(
            peer_id=0, shard_count=len(local), local_shards=local, remote_shards=[],
            shard_transfers=[],
        )  # fmt: skip
