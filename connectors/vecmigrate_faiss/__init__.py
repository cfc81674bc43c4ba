"""The FAISS connector: ``faiss:PATH[?sidecar=FILE&id=FIELD&text=FIELD&index=FACTORY]``."""

from __future__ import annotations

from vecmigrate.connector import (
    Provenance,
    Sink,
    Source,
    StoreURI,
    Switcher,
    SwitchingConnector,
    TargetSpec,
    Updater,
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


class FaissConnector(SwitchingConnector):
    """Opens FAISS index files, with texts and payloads in a sidecar, or in a framework's folder."""

    def open_source(self, uri: StoreURI) -> Source:
        """Open an index file for reading, memory-mapped.

        Raises
        ------
        UsageError
            Where an option is not understood.
        InputError
            Where the index or its sidecar is not there, cannot be read or is of an unknown kind.
        """
        return FaissSource(uri, followed(Location.parse(uri, SOURCE_OPTIONS).in_folder()))

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        """Begin a new index file; it appears at its name when the sink finishes.

        Raises
        ------
        TargetExistsError
            Where the index, its sidecar or its companion is there; or, without ``restart``, what
            an earlier run left unfinished.
        LockedError
            If another run is writing there now.
        UsageError
            Where an option is not understood, ``?index=`` names no index that FAISS has, or the
            directory does not exist.
        MismatchError
            Where FAISS has no index of that kind and metric.
        WriteError
            Where the directory cannot be written.
        """
        sink = FaissSink(uri, Location.parse(uri, SINK_OPTIONS), spec)
        sink.begin(restart=restart)
        return sink

    def resume_sink(self, uri: StoreURI, spec: TargetSpec, token: str) -> Sink:
        """Continue what an earlier sink staged; see :class:`ResumableConnector`."""
        sink = FaissSink(uri, Location.parse(uri, SINK_OPTIONS), spec)
        sink.resume(token)
        return sink

    def open_updater(self, uri: StoreURI, provenance: Provenance) -> Updater:
        """Open an index for changes; see :class:`UpdatableConnector`."""
        return FaissUpdater(uri, followed(Location.parse(uri, UPDATER_OPTIONS)), provenance)

    def switcher(self) -> Switcher:
        """Return what moves readers of an index's name to another index."""
        return FaissSwitcher()


connector = FaissConnector()
