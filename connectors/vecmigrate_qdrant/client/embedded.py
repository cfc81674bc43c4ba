"""Embedded storage: one client for each directory in this process, shared by all who open it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from qdrant_client.client_base import QdrantBase
from qdrant_client.local.qdrant_local import META_INFO_FILENAME, QdrantLocal

from vecmigrate.connector import InputError, Lease, LeaseFile, RefusedError, WriteError, sync_path
from vecmigrate_qdrant.access.base import Access, Refusal, StrictMode, T
from vecmigrate_qdrant.access.shared import SharedPlaces
from vecmigrate_qdrant.client.points import ClientPoints
from vecmigrate_qdrant.points import Points, Shape
from vecmigrate_qdrant.settings import unknown_to_embedded

_LOCK_FILE, _COLLECTIONS = ".lock", "collection"
"""What qdrant-client makes in a storage beside its list of collections."""


@dataclass(slots=True)
class _Shared:
    """An open storage.

    Attributes
    ----------
    made
        The directories made for it, the innermost first; None if the storage was there before.
    """

    directory: Path
    client: QdrantLocal
    made: list[Path] | None
    # qdrant-client's local mode is not thread-safe, and a source may be read in one thread while
    # a sink of the same directory is written in another.
    lock: threading.RLock = field(default_factory=threading.RLock)

    def close(self) -> None:
        """Close the storage; one made here that holds no collection is removed."""
        gone = self.made is not None and not self.client.collections
        if gone:
            # Before the lock is released: what another process makes next is its own.
            (self.directory / META_INFO_FILENAME).unlink(missing_ok=True)
            with suppress(OSError):
                (self.directory / _COLLECTIONS).rmdir()
            (self.directory / _LOCK_FILE).unlink(missing_ok=True)
        self.client.close()
        if gone:
            with suppress(OSError):
                for made in self.made or ():
                    made.rmdir()


_places: SharedPlaces[_Shared] = SharedPlaces(_Shared.close)


class EmbeddedAccess(Access):
    """Qdrant in a directory, inside this process.

    Raises
    ------
    InputError, WriteError
        If the directory is no Qdrant storage, cannot be used, or another client holds it.
    """

    embedded = True
    indexed = False

    def __init__(self, directory: Path, refusal: Refusal) -> None:
        super().__init__(str(directory), refusal)
        self._key = Path(os.path.realpath(directory))
        if refusal is InputError and not (directory / META_INFO_FILENAME).is_file():
            # Opening the client would create the directory, or mark a foreign one as storage.
            wrong = "is not embedded Qdrant storage" if directory.exists() else "does not exist"
            raise InputError(
                f"the directory {directory} {wrong}",
                remedy="Give the one that the application opens with QdrantClient(path=...); "
                "a server's collections are reached by qdrant://HOST/COLLECTION.",
            )
        shared = _places.take(self._held, self._key, lambda: self._open(directory))
        self._client = shared.client
        self._lock = shared.lock

    def _make_storage(self) -> list[Path] | None:
        """Make the file that tells of no collections yet, if there is none.

        qdrant-client makes it in two steps, and cannot open what a kill between them leaves.
        Returns :attr:`_Shared.made`.
        """
        meta = self._key / META_INFO_FILENAME
        if meta.exists():
            return None
        missing = [path for path in (self._key, *self._key.parents) if not path.exists()]
        self._key.mkdir(parents=True, exist_ok=True)
        whole = meta.with_name(f"{META_INFO_FILENAME}.new")
        whole.write_text(json.dumps({"collections": {}, "aliases": {}}))
        # Linked and not renamed, lest it replace what another process has just made; where the
        # disk has no links, qdrant-client does it its way.
        with suppress(OSError):
            os.link(whole, meta)
        whole.unlink()
        return missing

    def _open(self, directory: Path) -> _Shared:
        # Advice for a choice that is the user's and made before vecmigrate came: reading the old
        # collection and writing one of its size is the job.
        warnings.filterwarnings("ignore", message="Local mode is not recommended")
        # Before the client opens all files, which it leaves open if it finds another's lock then.
        for lease in self._key.glob(f".*{LeaseFile.SUFFIX}"):
            Lease(LeaseFile(lease), directory).refuse_if_held()
        try:
            made = self._make_storage()
            client = QdrantLocal(str(self._key), force_disable_check_same_thread=True)
            return _Shared(self._key, client, made)
        except RuntimeError as error:
            raise self._refusal(
                f"the Qdrant storage {directory} is in use by another client",
                remedy="Embedded storage serves one process at a time: close what has it open (an "
                "application, a notebook, another vecmigrate, a client in this program) and run "
                "this again.",
            ) from error
        except Exception as error:
            # A damaged file can make the client's own reading of it fail with anything.
            kind = type(error).__name__
            raise self._refusal(
                f"the Qdrant storage {directory} cannot be opened ({kind}: {error})",
                remedy="Check the path, its permissions and that its files are whole.",
            ) from error

    def run(self, request: Callable[[QdrantBase], T]) -> T:
        with self._lock:
            try:
                return request(self._client)
            except KeyError as error:
                raise self._refusal(
                    f"the Qdrant storage {self.place} has no point with id {error.args[0]!r}",
                    remedy="Ask for points that are there.",
                ) from error
            except (OSError, ValueError, IndexError, sqlite3.Error) as error:
                # The client looks into an empty polygon of a filter, too.
                content = self._refusal is WriteError and isinstance(error, ValueError)
                raise (RefusedError if content else self._refusal)(
                    f"the Qdrant storage {self.place} refused a request ({error})",
                    remedy="Check the request, the disk's free space and the directory's "
                    "permissions.",
                ) from error

    def points(self, collection: str, shape: Shape) -> Points:
        return ClientPoints(self, collection, shape)

    def lease_file(self, name: str) -> LeaseFile:
        return LeaseFile.beside(self._key / name)

    def unkept(self, settings: Mapping[str, JsonValue]) -> list[str]:
        return unknown_to_embedded(settings)

    def begin_writes(self, collection: str) -> None:
        # qdrant-client commits every point by itself, which SQLite by default follows with several
        # fsyncs: some 10 ms a point on a common disk. With a write-ahead log and syncs only at
        # checkpoints it is twentyfold faster and a power cut still cannot corrupt the file, only
        # lose the last points of a collection that is marked as unfinished anyway.
        self._pragmas(collection, "journal_mode=WAL", "synchronous=NORMAL")

    def sync_writes(self, collection: str) -> None:
        # With synchronous=NORMAL a checkpoint of the log is what reaches the disk.
        self._pragmas(collection, "wal_checkpoint(FULL)")

    def publish(
        self, collection: str, metadata: dict[str, Any], strict_mode: StrictMode = None
    ) -> None:
        # Back to the file format and the syncs that qdrant-client itself chooses.
        self._pragmas(
            collection, "wal_checkpoint(TRUNCATE)", "journal_mode=DELETE", "synchronous=FULL"
        )
        super().publish(collection, metadata)
        for path in (self._key / META_INFO_FILENAME, self._key):
            sync_path(path)

    def overwrite_deleted(self, collection: str) -> None:
        self._execute(collection, "PRAGMA secure_delete=ON", "VACUUM")

    def _pragmas(self, collection: str, *pragmas: str) -> None:
        self._execute(collection, *(f"PRAGMA {pragma}" for pragma in pragmas))

    def _execute(self, collection: str, *statements: str) -> None:
        def execute(_: QdrantBase) -> None:
            storage = self._client.collections[collection].storage
            if storage is not None:
                for statement in statements:
                    storage.storage.execute(statement).fetchall()

        self.run(execute)
