"""The FAISS connector: ``faiss:PATH[?sidecar=FILE&id=FIELD&text=FIELD&index=FACTORY]``."""

from __future__ import annotations

from contextlib import AbstractContextManager

from vecmigrate.connector import (
    BaseConnector,
    Provenance,
    Remnant,
    Source,
    StoreURI,
    Switcher,
    SwitchingConnector,
    TargetSpec,
    Updater,
    held_beside,
)
from vecmigrate_faiss.generations import followed
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.sink import FaissSink
from vecmigrate_faiss.source import FaissSource
from vecmigrate_faiss.switcher import FaissSwitcher
from vecmigrate_faiss.updater import FaissUpdater

__all__ = ["FaissConnector", "FaissSink", "FaissSource", "connector"]

SINK_OPTIONS = ("index",)
# What a target was made with may be left in its URI when it is verified, updated or searched.
SOURCE_OPTIONS = ("sidecar", "id", "table", "text", *SINK_OPTIONS)
UPDATER_OPTIONS = ("text", *SINK_OPTIONS)


class FaissConnector(BaseConnector, SwitchingConnector):
    """Opens FAISS index files, with texts and payloads in a sidecar, or in a framework's folder."""

    def open_source(self, uri: StoreURI) -> Source:
        """Open an index file for reading, memory-mapped.

        Raises
        ------
        UsageError
            If an option is not understood.
        InputError
            If the index or its sidecar is not there, cannot be read or is of an unknown kind.
        """
        return FaissSource(uri, followed(Location.parse(uri, SOURCE_OPTIONS).in_folder()))

    def sink(self, uri: StoreURI, spec: TargetSpec) -> FaissSink:
        """Make what writes a new index file, which appears at its name when the sink finishes.

        Raises
        ------
        UsageError
            If an option is not understood, or ``?index=`` names no index that FAISS has.
        MismatchError
            If FAISS has no index of that kind and metric.
        """
        return FaissSink(uri, Location.parse(uri, SINK_OPTIONS), spec)

    def open_updater(self, uri: StoreURI, provenance: Provenance | None) -> Updater:
        """Open an index for changes; see :class:`UpdatableConnector`."""
        return FaissUpdater(uri, followed(Location.parse(uri, UPDATER_OPTIONS)), provenance)

    def erase_deleted(self, uri: StoreURI) -> tuple[Remnant, ...]:
        """Nothing is left: an update wrote the files anew. See :class:`ErasingConnector`."""
        return ()

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        return held_beside(followed(Location.parse(uri, SOURCE_OPTIONS)).index, uri)

    def switcher(self) -> Switcher:
        """Return what moves readers of an index's name to another index."""
        return FaissSwitcher()


connector = FaissConnector()
