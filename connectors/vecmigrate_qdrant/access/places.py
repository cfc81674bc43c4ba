"""Reads a URI of any of the connectors for Qdrant: by its scheme."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from vecmigrate.connector import StoreURI, UsageError
from vecmigrate_qdrant.location import EmbeddedLocation, ServerLocation, parse_location

EDGE, SNAPSHOT = "qdrant-edge", "qdrant-snapshot"
OF = "of"
_OPTIONS = ("vector", "text")
_MEANT_OTHERWISE = set("%?/")
_COLLECTION = re.compile(r"qdrant(\+https)?://[^/?]+/[^?]")


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
    place
        The snapshot's file; or the server that is to make one, which is downloaded.
    of
        The URI of the snapshot's collection, None if it is not known.
    """

    place: Path | ServerLocation
    of: str | None = None

    @property
    def collection(self) -> str:
        """The file's name, or the collection's at its server."""
        return self.place.name if isinstance(self.place, Path) else self.place.collection


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
    of = uri.options.get(OF)
    if of is not None and not _COLLECTION.match(of):
        raise UsageError(
            f"'{uri}': {of!r} is no server's collection",
            remedy="Write ?of=qdrant://HOST:PORT/COLLECTION, and & in it as %26.",
        )
    if uri.location.startswith("//"):
        rest = {name: value for name, value in uri.options.items() if name != OF}
        server = parse_location(replace(uri, scheme="qdrant", options=rest))
        assert isinstance(server, ServerLocation)
        return SnapshotLocation(server, of or collection_uri(server))
    file = Path(uri.location)
    if uri.transport or not file.name:
        raise UsageError(
            f"'{uri}' names no file",
            remedy="Write qdrant-snapshot:FILE, or qdrant-snapshot://HOST/COLLECTION to have a "
            "server make one.",
        )
    uri.check_options((*_OPTIONS, OF))
    return SnapshotLocation(file, of)


def collection_uri(location: EmbeddedLocation | ServerLocation, collection: str = "") -> str:
    """Return the URI of a collection at a location, of its own by default, without options."""
    name = collection or location.collection
    if isinstance(location, EmbeddedLocation):
        directory = str(location.directory.resolve()).replace("%", "%25").replace("?", "%3F")
        return f"qdrant:{directory}/{name}"
    address = str(location).partition("://")[2]
    name = quote(name, safe=" ") if _MEANT_OTHERWISE & set(name) else name
    return f"qdrant{'+https' if location.https else ''}://{address}/{name}"
