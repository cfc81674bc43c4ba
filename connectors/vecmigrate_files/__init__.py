"""Parquet and NumPy files on the local disk as sources and targets of vecmigrate."""

from __future__ import annotations

from vecmigrate.connector import Connector, Provenance, Sink, Source, StoreURI, TargetSpec, Updater
from vecmigrate_files.npy.place import OPTIONS as NPY_OPTIONS
from vecmigrate_files.npy.sink import NpySink
from vecmigrate_files.npy.source import NpySource
from vecmigrate_files.parquet.sink import ParquetSink
from vecmigrate_files.parquet.source import OPTIONS, ParquetSource
from vecmigrate_files.parquet.updater import ParquetUpdater
from vecmigrate_files.place import Place

__all__ = ["npy_connector", "parquet_connector"]


class ParquetConnector(Connector):
    """Parquet files on this disk, as ``parquet:FILE_OR_FOLDER``."""

    def open_source(self, uri: StoreURI) -> Source:
        return ParquetSource(uri)

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        sink = ParquetSink(Place.parse(uri, OPTIONS), spec)
        sink.begin(restart=restart)
        return sink

    def resume_sink(self, uri: StoreURI, spec: TargetSpec, token: str) -> Sink:
        sink = ParquetSink(Place.parse(uri, OPTIONS), spec)
        sink.resume(token)
        return sink

    def open_updater(self, uri: StoreURI, provenance: Provenance) -> Updater:
        return ParquetUpdater(Place.parse(uri, OPTIONS), provenance)


class NpyConnector(Connector):
    """Arrays of NumPy's on this disk, as ``npy:FILE.npy``."""

    def open_source(self, uri: StoreURI) -> Source:
        return NpySource(uri)

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        sink = NpySink(Place.parse(uri, NPY_OPTIONS), spec)
        sink.begin(restart=restart)
        return sink

    def resume_sink(self, uri: StoreURI, spec: TargetSpec, token: str) -> Sink:
        sink = NpySink(Place.parse(uri, NPY_OPTIONS), spec)
        sink.resume(token)
        return sink


parquet_connector = ParquetConnector()
npy_connector = NpyConnector()
