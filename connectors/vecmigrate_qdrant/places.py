"""Reads a URI of any of the connectors for Qdrant: by its scheme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vecmigrate.connector import StoreURI, UsageError
from vecmigrate_qdrant.location import EmbeddedLocation, ServerLocation, parse_location

EDGE, SNAPSHOT = "qdrant-edge", "qdrant-snapshot"
_OPTIONS = ("vector", "text")


@dataclass(frozen=True, slots=True)
class EdgeLocation:
    """A directory that is one collection, held by Qdrant's own engine inside this process."""

    directory: Path

    @property
    def collection(self) -> str:
        """The directory's name, which is the collection's."""
        return self.directory.name


Location: TypeAlias = EmbeddedLocation | ServerLocation | EdgeLocation


def parse_place(uri: StoreURI) -> Location:
    """Tell where a collection is; raises as :func:`parse_location`."""
    return _edge(uri) if uri.scheme == EDGE else parse_location(uri)


def _edge(uri: StoreURI) -> EdgeLocation:
    directory = Path(uri.location.rstrip("/"))
    if uri.transport or uri.location.startswith("//") or not directory.name:
        raise UsageError(f"'{uri}' names no directory", remedy="Write qdrant-edge:DIRECTORY.")
    uri.check_options(_OPTIONS)
    return EdgeLocation(directory)
