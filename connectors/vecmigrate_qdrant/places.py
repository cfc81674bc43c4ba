"""Reads a URI of any of the connectors for Qdrant: by its scheme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vecmigrate.connector import StoreURI, UsageError
from vecmigrate_qdrant.location import EmbeddedLocation, ServerLocation, parse_location

EDGE, SNAPSHOT = "qdrant-edge", "qdrant-snapshot"
OF = "of"
_OPTIONS = ("vector", "text")


@dataclass(frozen=True, slots=True)
class EdgeLocation:
    """A directory that is one collection, held by Qdrant's own engine inside this process."""

    directory: Path

    @property
    def collection(self) -> str:
        """The directory's name, which is the collection's."""
        return self.directory.name


@dataclass(frozen=True, slots=True)
class SnapshotLocation:
    """A snapshot of a server's collection, or of one of its shards.

    Attributes
    ----------
    file
        The snapshot's file.
    """

    file: Path

    @property
    def collection(self) -> str:
        """The file's name."""
        return self.file.name


Location: TypeAlias = EmbeddedLocation | ServerLocation | EdgeLocation | SnapshotLocation


def parse_place(uri: StoreURI) -> Location:
    """Tell where a collection is; raises as :func:`parse_location`."""
    if uri.scheme == EDGE:
        return _edge(uri)
    return _snapshot(uri) if uri.scheme == SNAPSHOT else parse_location(uri)


def _edge(uri: StoreURI) -> EdgeLocation:
    directory = Path(uri.location.rstrip("/"))
    if uri.transport or uri.location.startswith("//") or not directory.name:
        raise UsageError(f"'{uri}' names no directory", remedy="Write qdrant-edge:DIRECTORY.")
    uri.check_options(_OPTIONS)
    return EdgeLocation(directory)


def _snapshot(uri: StoreURI) -> SnapshotLocation:
    file = Path(uri.location)
    if uri.transport or uri.location.startswith("//") or not file.name:
        raise UsageError(f"'{uri}' names no file", remedy="Write qdrant-snapshot:FILE.")
    uri.check_options((*_OPTIONS, OF))
    return SnapshotLocation(file)
