"""Parquet and NumPy files on the local disk as sources and targets of vecmigrate."""

from __future__ import annotations

from contextlib import AbstractContextManager

from vecmigrate.connector import (
    BaseConnector,
    LocalPlace,
    Provenance,
    Remnant,
    Source,
    StoreURI,
    TargetSpec,
    Updater,
    held_beside,
)
from vecmigrate_files.npy.place import OPTIONS as NPY_OPTIONS
from vecmigrate_files.npy.place import NpyPlace
from vecmigrate_files.npy.sink import NpySink
from vecmigrate_files.npy.source import NpySource
from vecmigrate_files.parquet.sink import ParquetSink
from vecmigrate_files.parquet.source import OPTIONS, ParquetSource
from vecmigrate_files.parquet.updater import ParquetUpdater

__all__ = ["npy_connector", "parquet_connector"]


class ParquetConnector(BaseConnector):
    """Parquet files on this disk, as ``parquet:FILE_OR_FOLDER``."""

    def open_source(self, uri: StoreURI) -> Source:
        return ParquetSource(uri)

    def sink(self, uri: StoreURI, spec: TargetSpec) -> ParquetSink:
        return ParquetSink(LocalPlace.parse(uri, OPTIONS), spec)

    def open_updater(self, uri: StoreURI, provenance: Provenance | None) -> Updater:
        return ParquetUpdater(LocalPlace.parse(uri, OPTIONS), provenance)

    def erase_deleted(self, uri: StoreURI) -> tuple[Remnant, ...]:
        # An update wrote each file anew that held a deleted point.
        return ()

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        return held_beside(LocalPlace.parse(uri, OPTIONS).path, uri)


class NpyConnector(BaseConnector):
    """Arrays of NumPy's on this disk, as ``npy:FILE.npy``."""

    def open_source(self, uri: StoreURI) -> Source:
        return NpySource(uri)

    def sink(self, uri: StoreURI, spec: TargetSpec) -> NpySink:
        return NpySink(NpyPlace.parse(uri, NPY_OPTIONS), spec)

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        return held_beside(NpyPlace.parse(uri, NPY_OPTIONS).path, uri)


parquet_connector = ParquetConnector()
npy_connector = NpyConnector()
