"""LanceDB tables on the local disk as sources and targets of vecmigrate."""

from __future__ import annotations

from contextlib import AbstractContextManager

from vecmigrate.connector import (
    BaseConnector,
    Provenance,
    Remnant,
    Source,
    StoreURI,
    TargetSpec,
    Updater,
    held_beside,
)
from vecmigrate_lancedb.place import SUFFIX, Place
from vecmigrate_lancedb.sink import LanceSink
from vecmigrate_lancedb.source import LanceSource
from vecmigrate_lancedb.updater import LanceUpdater, what_is_left

__all__ = ["connector"]


class LanceConnector(BaseConnector):
    """Tables of LanceDB databases on this disk, as ``lancedb:DATABASE/TABLE``."""

    def canonical(self, uri: StoreURI) -> str:
        return uri.canonical().removesuffix(SUFFIX)

    def open_source(self, uri: StoreURI) -> Source:
        return LanceSource(uri)

    def sink(self, uri: StoreURI, spec: TargetSpec) -> LanceSink:
        return LanceSink(Place.parse(uri), spec)

    def open_updater(self, uri: StoreURI, provenance: Provenance | None) -> Updater:
        return LanceUpdater(Place.parse(uri), provenance)

    def erase_deleted(self, uri: StoreURI) -> tuple[Remnant, ...]:
        return what_is_left(Place.parse(uri))

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        return held_beside(Place.parse(uri).path, uri)


connector = LanceConnector()
