"""A collection in a directory, held by Qdrant's own engine inside this process."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import qdrant_edge
from pydantic import JsonValue
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import (
    InputError,
    Lease,
    LeaseFile,
    TargetExistsError,
    WriteError,
    replace_text,
)
from vecmigrate_qdrant.access.base import STORED_ULPS, Access, Refusal, StrictMode, T
from vecmigrate_qdrant.access.places import EdgeLocation
from vecmigrate_qdrant.access.shared import SharedPlaces
from vecmigrate_qdrant.edge.engine import Shard, failures, in_use, is_in_use
from vecmigrate_qdrant.edge.points import EdgePoints, Place, is_ascending
from vecmigrate_qdrant.edge.settings import (
    CONFIG_FILE,
    LOG_SETTING,
    SEGMENTS,
    collection_config,
    collection_info,
    engine_config,
    engine_index,
    indexed_fields,
    last_update,
    payload_schema,
    read_config,
    unkept,
)
from vecmigrate_qdrant.marks import State, read_mark
from vecmigrate_qdrant.points import Points, Shape

METADATA_FILE = "vecmigrate.json"
_NEW = ".new"
# What a write may take beyond its vectors: the engine writes into mapped files, and a full disk
# ends the process without a word.
ROOM_BYTES = 128 * 2**20


class _Directory:
    """A directory that this process alone has, and the shard in it if there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._held: int | None = None
        self._shard: Shard | None = None

    def hold(self, refusal: Refusal) -> None:
        """Keep other processes out; a shard without a log is not locked by the engine."""
        if self._held is not None:
            return
        held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            Lease(LeaseFile.beside(self.path), self.path).refuse_if_held()
            raise in_use(self.path, refusal) from error
        self._held = held

    def shard(self) -> Shard:
        """Return the shard, loaded when it is first needed."""
        with self.lock:
            if self._shard is None:
                self._shard = Shard(qdrant_edge.EdgeShard.load(str(self.path)))
            return self._shard

    def release(self) -> None:
        """Close the shard and let others in."""
        with self.lock:
            if self._shard is not None:
                self._shard.close()
            self._shard = None
            if self._held is not None:
                os.close(self._held)
            self._held = None

    def begin_log(self) -> None:
        """Have the engine log updates from now on, in a shard that was filled without a log.

        The engine numbers updates by their place in the log, and passes over one whose number is
        no higher than what a point has from before. A new log begins at zero, so that updates of
        nothing take the numbers that are taken. May be called again after it was broken off.
        """
        with self.lock:
            self.check_room(ROOM_BYTES)
            config = read_config(self.path)
            if LOG_SETTING in config:
                if self._shard is not None:
                    self._shard.close()
                    self._shard = None
                del config[LOG_SETTING]
                self.write_file(CONFIG_FILE, config)
            nothing = qdrant_edge.UpdateOperation.delete_points([])
            shard = self.shard()
            for _ in range(last_update(self.path) + 1):
                shard.ask(lambda engine: engine.update(nothing))
            shard.ask(lambda engine: engine.flush())

    def metadata(self) -> dict[str, Any]:
        """Return the collection's metadata, empty if it has none."""
        try:
            found = json.loads((self.path / METADATA_FILE).read_text())
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    def write_metadata(self, metadata: dict[str, Any]) -> None:
        """Replace the metadata in one step that outlives a power cut."""
        self.write_file(METADATA_FILE, metadata)

    def write_file(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole or not at all."""
        replace_text(self.path / name, json.dumps(content))

    def exists(self) -> bool:
        """Tell whether a collection is there, half made or whole."""
        names = (METADATA_FILE, CONFIG_FILE, SEGMENTS)
        return any((self.path / name).exists() for name in names)

    def foreign(self) -> list[str]:
        """Name what is in the directory of a collection that is not there."""
        leftover = f"{METADATA_FILE}{_NEW}"
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if entry.name != leftover)

    def remove(self) -> None:
        """Remove the collection; last of it what tells that it is unfinished."""
        self.release()
        entries = sorted(self.path.iterdir(), key=lambda entry: entry.name == METADATA_FILE)
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with suppress(OSError):
            self.path.rmdir()

    def check_room(self, needed: int) -> None:
        """Raise :class:`WriteError` unless the disk has room for ``needed`` bytes."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise WriteError(
                f"the disk of {self.path} is nearly full: {free >> 20:,} MiB are free, and "
                f"{needed >> 20:,} MiB are needed to go on",
                remedy="Make room and run the same command again: it continues.",
            )

    def size(self) -> int:
        """Return the bytes that the shard takes on the disk."""
        files = (Path(at) / name for at, _, names in os.walk(self.path) for name in names)
        return sum(file.lstat().st_blocks * 512 for file in files)


_places: SharedPlaces[_Directory] = SharedPlaces(_Directory.release)


class EdgeAccess(Access):
    """One collection, the whole of a directory.

    Raises
    ------
    InputError, WriteError
        If the directory is no such collection, cannot be used, or another process has it.
    """

    embedded = True
    payload_ulps = STORED_ULPS

    def __init__(self, location: EdgeLocation, refusal: Refusal) -> None:
        super().__init__(str(location.directory.parent), refusal)
        self._where = str(location.directory)
        self._key = Path(os.path.realpath(location.directory))
        if refusal is InputError and not _Directory(self._key).exists():
            wrong = "holds no Qdrant collection" if self._key.exists() else "does not exist"
            raise InputError(
                f"the directory {location.directory} {wrong}",
                remedy="Give the one that the application opens with EdgeShard.load(...).",
            )
        made = partial(_Directory, self._key)
        self._client = _EdgeClient(_places.take(self._held, self._key, made, self._hold))

    def _hold(self, directory: _Directory) -> None:
        if directory.path.exists():
            with self._failures():
                directory.hold(self._refusal)

    def run(self, request: Callable[[QdrantBase], T]) -> T:
        with self._failures(), self._client.directory.lock:
            return request(self._client)

    def points(self, collection: str, shape: Shape) -> Points:
        directory = self._client.directory
        ascending = is_ascending(self.info(collection).config.params, shape.vector)
        place = Place(
            self._where,
            self._refusal,
            lambda: {None: [directory.shard()]},
            ascending=ascending,
            before_write=lambda size: directory.check_room(ROOM_BYTES + 4 * size),
        )
        return EdgePoints(place, shape)

    def lease_file(self, name: str) -> LeaseFile:
        # The collection may be the first thing there.
        self._key.parent.mkdir(parents=True, exist_ok=True)
        return LeaseFile.beside(self._key)

    def unkept(self, settings: Mapping[str, JsonValue]) -> list[str]:
        return unkept(settings)

    def sync_writes(self, collection: str) -> None:
        directory = self._client.directory
        with self._failures():
            directory.check_room(ROOM_BYTES)
            directory.shard().ask(lambda engine: engine.flush())

    def build_index(self) -> None:
        directory = self._client.directory
        with self._failures():
            self.sync_writes("")
            # Each segment is written anew, the vectors too, before the old one goes.
            directory.check_room(ROOM_BYTES + directory.size())
            directory.shard().ask(lambda engine: engine.optimize())

    def publish(
        self, collection: str, metadata: dict[str, Any], strict_mode: StrictMode = None
    ) -> None:
        self.sync_writes(collection)
        self._client.end_filling()
        super().publish(collection, metadata)

    def _failures(self) -> Any:
        return failures(self._where, self._refusal)


class _EdgeClient(QdrantBase):
    """What qdrant-client asks of a Qdrant, of the one collection in a directory."""

    def __init__(self, directory: _Directory) -> None:
        super().__init__()
        self.directory = directory

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        return self.directory.exists()

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        return models.CollectionsAliasesResponse(aliases=[])

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        return models.CollectionsResponse(collections=[])

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        path = self.directory.path
        if not (path / SEGMENTS).exists():
            return self._unmade()
        try:
            info = self.directory.shard().ask(lambda engine: engine.info())
        except Exception as error:
            # What a power cut broke while it was written is to be begun anew.
            mark = None if is_in_use(error) else read_mark(self._unmade())
            if mark is None or mark.state is not State.WRITING:
                raise
            return self._unmade()
        config, schema = self._config(read_config(path)), payload_schema(indexed_fields(path))
        return collection_info([info], config, schema)

    def _unmade(self) -> models.CollectionInfo:
        """Return what is known of a collection without its shard."""
        return collection_info([], self._config({}), {})

    def _config(self, config: Mapping[str, Any]) -> models.CollectionConfig:
        metadata = self.directory.metadata() or None
        return collection_config(config).model_copy(update={"metadata": metadata})

    def create_collection(
        self, collection_name: str, vectors_config: Any = None, **kwargs: Any
    ) -> bool:
        directory = self.directory
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.hold(WriteError)
        if found := directory.foreign():
            raise TargetExistsError(
                f"the directory {directory.path} is not empty (it holds {found[0]})",
                remedy="Name another target, or a directory that is empty or not there.",
            )
        directory.check_room(ROOM_BYTES)
        # The mark comes first: what a kill leaves without one could be anybody's.
        directory.write_metadata(kwargs.pop("metadata"))
        config = engine_config({"vectors_config": vectors_config, **kwargs})
        # A run that is killed writes again what was not flushed: a log would be written for nobody.
        config[LOG_SETTING] = False
        directory.write_file(CONFIG_FILE, config)
        directory.shard()
        return True

    def end_filling(self) -> None:
        """Make a collection that a run has filled one that others may write."""
        mark = read_mark(self._unmade())
        if mark is not None and mark.state is State.WRITING:
            self.directory.begin_log()

    def update_collection(self, collection_name: str, **kwargs: Any) -> bool:
        changed = {**self.directory.metadata(), **kwargs.pop("metadata")}
        self.directory.write_metadata(changed)
        return True

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        self.directory.remove()
        return True

    def create_payload_index(
        self,
        collection_name: str,
        field_name: str,
        field_schema: Any = None,
        field_type: Any = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        operation = qdrant_edge.UpdateOperation.create_field_index(
            field_name, engine_index(field_schema)
        )
        self.directory.shard().ask(lambda engine: engine.update(operation))
        return models.UpdateResult(status=models.UpdateStatus.COMPLETED)
