"""Where a lease on a collection, or on a vector of one, is kept.

A server has no locks, and merges a collection's metadata key by key, so that a lease is a key of
its own: of several runs that write their names there, the last one has it. Of storage on this disk
it is a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from qdrant_client import models

from vecmigrate.connector import (
    Holder,
    Lease,
    LeasePlace,
    LockedError,
    StoreURI,
    WriteError,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.access.places import parse_place
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import existing_collection
from vecmigrate_qdrant.location import VECTOR, is_in_place
from vecmigrate_qdrant.marks import LEASE_KEY, read_mark, vector_marks


class Metadata(LeasePlace):
    """A key of a collection's metadata on a server.

    Parameters
    ----------
    name
        The key.
    """

    def __init__(self, access: Access, collection: str, name: str) -> None:
        self._access, self._collection, self._name = access, collection, name
        self.key = f"{access.place}/{collection}#{name}"

    def read(self, *, once: bool = False) -> Holder | None:
        run = self._access.run_once if once else self._access.run
        return self.read_in(run(lambda client: client.get_collection(self._collection)))

    def read_in(self, info: models.CollectionInfo) -> Holder | None:
        """Return who holds the lease by what a server said of the collection."""
        return Holder.parse((info.config.metadata or {}).get(self._name))

    def entry(self, holder: Holder | None) -> dict[str, Any]:
        """Return the metadata that hold the lease, or with None take it away."""
        return {self._name: None if holder is None else holder.model_dump(mode="json")}

    def write(self, holder: Holder, over: Holder | None, *, once: bool = False) -> bool:
        run = self._access.run_once if once else self._access.run
        entry = self.entry(holder)
        try:
            run(lambda client: client.update_collection(self._collection, metadata=entry))
        except WriteError:
            if self._access.exists(self._collection):
                raise
            # Between the two another run took the lease, and begins the collection anew.
            return False
        return True

    def remove(self, holder: Holder) -> None:
        entry = self.entry(None)
        self._access.run_once(
            lambda client: client.update_collection(self._collection, metadata=entry)
        )


class CollectionLease(Lease):
    """A run's lease on a collection, or on a vector of one.

    Parameters
    ----------
    where
        The target's name, for a person.
    vector
        The vector that was or is added to a collection in place; None for the collection itself.
    """

    def __init__(
        self, access: Access, collection: str, where: str, vector: str | None = None
    ) -> None:
        name = LEASE_KEY if vector is None else f"{LEASE_KEY}:{vector}"
        file = access.lease_file(collection if vector is None else f"{collection}:{vector}")
        kept = file or Metadata(access, collection, name)
        self._metadata = kept if isinstance(kept, Metadata) else None
        super().__init__(kept, where, access.place)

    def entry(self) -> dict[str, Any]:
        """Return the metadata that hold the lease of a collection to be made.

        Raises
        ------
        LockedError
            As :meth:`claim`, if it is kept elsewhere, where it is taken now.
        """
        if self._metadata is None:
            self.claim()
            return {}
        return self._metadata.entry(self.sign())

    def no_entry(self) -> dict[str, Any]:
        """Return the metadata that take the lease away."""
        return {} if self._metadata is None else self._metadata.entry(None)

    def claim_if_kept(self) -> None:
        """As :meth:`claim`; of a server too old to keep metadata nothing is asked.

        For a collection that vecmigrate did not make, which may be on such a server.
        """
        try:
            self.claim()
        except LockedError:
            if self._metadata is None or self._metadata.read() is not None:
                raise

    def clear(self) -> None:
        """Make sure that nobody holds a finished target; what publishing left in a file goes."""
        if self._metadata is None:
            self.claim()
            self.release()
        else:
            self.await_free()

    def gone(self) -> None:
        """Take note that the collection has the lease no more; give back one that is elsewhere."""
        if self._metadata is None:
            self.release()
        else:
            self.forget()

    def is_in(self, info: models.CollectionInfo) -> bool:
        """Tell whether a collection, as Qdrant told of it, has this lease."""
        return self.is_held if self._metadata is None else self.is_of(self._metadata.read_in(info))


@contextmanager
def held(uri: StoreURI) -> Iterator[None]:
    """Hold the lease on a collection or vector that is there; see :class:`LeasingConnector`."""
    location = parse_place(uri)
    with closing(open_access(location, refusal=WriteError)) as access:
        collection = access.aliases().get(location.collection, location.collection)
        info = existing_collection(access, collection)
        vector = uri.options.get(VECTOR) if is_in_place(uri) else None
        lease = CollectionLease(access, collection, f"{access.place}/{collection}", vector)
        if access.embedded or vector in vector_marks(info) or read_mark(info) is not None:
            with lease.held():
                yield
        else:
            # A collection of a user's own gets no metadata of ours.
            lease.await_free()
            yield
