"""One way to reach Qdrant, whether it runs in this process or on a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

from pydantic import JsonValue
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from vecmigrate.connector import InputError, LeaseFile, WriteError
from vecmigrate_qdrant.points import Points, Shape

T = TypeVar("T")

Refusal: TypeAlias = type[InputError] | type[WriteError]
"""What a request that Qdrant refuses is raised as: the one when reading, the other when writing."""

StrictMode: TypeAlias = models.StrictModeConfig | None


STORED_ULPS = 8
"""Units in the last place that a payload's float may be off in what Qdrant's own engine stores.

Its parser of JSON, which payloads are stored as, is off by 2 units at most, and by 1 in one double
in nine between 0 and 1: when a request comes by REST, when a payload is read, and again each time
that segments are merged.
"""


class Access(ABC):
    """An open Qdrant.

    Attributes
    ----------
    place
        The directory or the server's address, for messages.
    embedded
        True where Qdrant runs in this process.
    indexed
        True if Qdrant's own engine holds the points: what is set of indexes counts.
    notes
        What a user should know of the connection.
    payload_ulps
        How many units in the last place a payload's float may be off what was written.
    """

    place: str
    embedded: bool
    indexed: bool = True
    notes: tuple[str, ...] = ()
    payload_ulps: int = 0

    def __init__(self, place: str, refusal: Refusal) -> None:
        self.place = place
        self._refusal = refusal
        self._held = ExitStack()

    @abstractmethod
    def run(self, request: Callable[[QdrantBase], T]) -> T:
        """Return what ``request`` returns for the client.

        Raises
        ------
        InputError, WriteError
            If Qdrant refuses it; which of the two was said on opening.
        UnreachableError
            If a server does not answer, even after retries.
        """

    def run_once(self, request: Callable[[QdrantBase], T]) -> T:
        """As :meth:`run`, without trying again."""
        return self.run(request)

    def exists(self, collection: str) -> bool:
        """Tell whether a collection, or an alias of one, is there; raises as :meth:`run`."""
        return self.run(lambda client: client.collection_exists(collection))

    def info(self, collection: str) -> models.CollectionInfo:
        """Return what Qdrant says of a collection; raises as :meth:`run`."""
        return self.run(lambda client: client.get_collection(collection))

    def aliases(self) -> dict[str, str]:
        """Return the collection of each alias; raises as :meth:`run`."""
        found = self.run(lambda client: client.get_aliases()).aliases
        return {alias.alias_name: alias.collection_name for alias in found}

    def update(self, collection: str, **changes: Any) -> None:
        """Change a collection as ``update_collection`` does; raises as :meth:`run`."""
        self.run(lambda client: client.update_collection(collection, **changes))

    @abstractmethod
    def points(self, collection: str, shape: Shape) -> Points:
        """Return what reads and writes the points of a collection."""

    def begin_writes(self, collection: str) -> None:  # noqa: B027 - few need to
        """Get a collection that was just created, or is continued, ready for many writes."""

    def sync_writes(self, collection: str) -> None:  # noqa: B027 - few need to
        """Bring the points written so far to the disk."""

    def build_index(self) -> None:  # noqa: B027 - few need to
        """Index what was written, if Qdrant does not by itself."""

    def lease_file(self, name: str) -> LeaseFile | None:
        """Return where the lease on a collection or vector is, of storage on this disk."""
        return None

    def unkept(self, settings: Mapping[str, JsonValue]) -> list[str]:
        """Name the settings of a new collection that there is no place for."""
        return []

    def overwrite_deleted(self, collection: str) -> None:  # noqa: B027 - one can
        """Leave nothing on the disk of points that were deleted, if that can be asked for."""

    def publish(
        self, collection: str, metadata: dict[str, Any], strict_mode: StrictMode = None
    ) -> None:
        """Make all writes durable, then set the metadata and the strict mode in one step."""
        # What a server has acknowledged is in its log already.
        self.update(collection, metadata=metadata, strict_mode_config=strict_mode)

    def close(self) -> None:
        """Release the client; may be called again."""
        self._held.close()
