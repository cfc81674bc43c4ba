"""Qdrant for vecmigrate: embedded storage, a server, or Qdrant Cloud.

``qdrant:DIRECTORY/COLLECTION`` is embedded storage, ``qdrant://HOST[:PORT]/COLLECTION`` a server,
``qdrant+https://HOST[:PORT]/COLLECTION`` a server behind TLS. Options of every URI: ``vector``
(which named vector), ``text`` (which payload field holds the text), and of a target ``in_place``
(true adds the vector to the collection that is there). Of a server's: ``grpc`` (true
or false; tried if offered by default), ``grpc_port``, ``timeout`` (seconds for one request),
``retries`` (of a request that met a passing fault), ``readers`` (pages to read at once),
``api_key_env`` (the environment variable with the key).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from vecmigrate.connector import (
    BaseConnector,
    BegunSink,
    Connector,
    Provenance,
    Remnant,
    Sink,
    Source,
    StoreURI,
    Switcher,
    SwitchingConnector,
    TargetSpec,
    Updater,
    UsageError,
)
from vecmigrate_qdrant.access.places import collection_uri
from vecmigrate_qdrant.location import REACHING, is_in_place, parse_location

__all__ = ["connector", "edge_connector", "snapshot_connector"]


class _QdrantConnector(BaseConnector, SwitchingConnector):
    """Collections on a server, or in embedded storage."""

    reaching = frozenset(REACHING)

    def canonical(self, uri: StoreURI) -> str:
        return collection_uri(parse_location(uri))

    def open_source(self, uri: StoreURI) -> Source:
        # qdrant-client takes half a second to import: only once a collection is opened.
        from vecmigrate_qdrant.source import QdrantSource

        return QdrantSource(uri)

    def sink(self, uri: StoreURI, spec: TargetSpec) -> BegunSink:
        from vecmigrate_qdrant.in_place import InPlaceSink
        from vecmigrate_qdrant.shared_sink import SharedSink
        from vecmigrate_qdrant.sink import QdrantSink

        if is_in_place(uri):
            return InPlaceSink(uri, spec)
        return (SharedSink if spec.shared else QdrantSink)(uri, spec)

    def open_updater(self, uri: StoreURI, provenance: Provenance | None) -> Updater:
        from vecmigrate_qdrant.own_points import OwnPointsUpdater
        from vecmigrate_qdrant.updater import QdrantUpdater

        return (OwnPointsUpdater if is_in_place(uri) else QdrantUpdater)(uri, provenance)

    def erase_deleted(self, uri: StoreURI) -> tuple[Remnant, ...]:
        from vecmigrate_qdrant.deleted import erase_deleted

        return erase_deleted(uri)

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        from vecmigrate_qdrant.lease import held

        return held(uri)

    def switcher(self) -> Switcher:
        from vecmigrate_qdrant.switcher import QdrantSwitcher

        return QdrantSwitcher()


class _EdgeConnector(BaseConnector):
    """Directories of Qdrant's own engine; nothing leads their readers elsewhere."""

    open_source = _QdrantConnector.open_source
    open_updater = _QdrantConnector.open_updater
    erase_deleted = _QdrantConnector.erase_deleted
    held = _QdrantConnector.held

    def sink(self, uri: StoreURI, spec: TargetSpec) -> BegunSink:
        from vecmigrate_qdrant.sink import QdrantSink

        return QdrantSink(uri, spec)


class _SnapshotConnector(Connector):
    """Snapshots of a server's collections, for reading alone."""

    open_source = _QdrantConnector.open_source

    def origin(self, uri: StoreURI) -> str | None:
        """Return the URI of the collection that a snapshot is of; None if it is not told."""
        from vecmigrate_qdrant.access.places import SnapshotLocation, parse_place

        location = parse_place(uri)
        return location.of if isinstance(location, SnapshotLocation) else None

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        raise UsageError(
            f"{uri} is a snapshot, which is only read",
            remedy="Name another target, as qdrant-edge:DIRECTORY or qdrant://HOST/COLLECTION.",
        )


connector = _QdrantConnector()
edge_connector = _EdgeConnector()
snapshot_connector = _SnapshotConnector()
