"""Chooses what reaches the collection of a URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vecmigrate.connector import MissingDependencyError
from vecmigrate_qdrant.access.base import Access, Refusal
from vecmigrate_qdrant.access.places import EdgeLocation, Location, SnapshotLocation
from vecmigrate_qdrant.location import EmbeddedLocation


def open_access(location: Location, *, refusal: Refusal) -> Access:
    """Reach Qdrant at ``location``; only with ``WriteError`` for refusal is a directory made.

    Raises
    ------
    InputError, WriteError
        If embedded storage is missing, broken or in use.
    UsageError
        If the environment variable that is to hold the API key is not set.
    MissingDependencyError
        If Qdrant's engine is to be run in this process and is not installed.
    """
    if isinstance(location, EdgeLocation):
        with _needing_engine():
            from vecmigrate_qdrant.edge.access import EdgeAccess
        return EdgeAccess(location, refusal)
    if isinstance(location, SnapshotLocation):
        with _needing_engine():
            from vecmigrate_qdrant.snapshot.access import SnapshotAccess
        return SnapshotAccess(location)
    if isinstance(location, EmbeddedLocation):
        from vecmigrate_qdrant.client.embedded import EmbeddedAccess

        return EmbeddedAccess(location.directory, refusal)
    from vecmigrate_qdrant.server.access import ServerAccess

    return ServerAccess(location, refusal)


@contextmanager
def _needing_engine() -> Iterator[None]:
    """Tell how to get Qdrant's engine if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "qdrant_edge":
            raise
        raise MissingDependencyError(
            "qdrant-edge: and qdrant-snapshot: need the package qdrant-edge-py, which is not "
            "installed",
            remedy="Run: pip install 'vecmigrate[edge]'",
        ) from error
