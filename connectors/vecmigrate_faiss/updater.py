"""Changes points of an index file."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import IO

import numpy as np

from vecmigrate.connector import (
    CollectionDescription,
    IdArray,
    MismatchError,
    Provenance,
    StoreURI,
    Updater,
    VectorBatch,
    WriteError,
    check_dimension,
    take_lock,
)
from vecmigrate_faiss.carrying import Carried, can_carry
from vecmigrate_faiss.changes import Changes
from vecmigrate_faiss.exchange import complete, exchange, is_exchanged, new_files
from vecmigrate_faiss.files import build_files
from vecmigrate_faiss.kinds import IndexSettings
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.sink import writing
from vecmigrate_faiss.source import FaissSource
from vecmigrate_faiss.staging import Staging
from vecmigrate_faiss.unit_length import scaled_for

_READ = 8192


class FaissUpdater(Updater):
    """Changes that become a new index file at :meth:`finish`, in the place of the old one.

    All kinds of index are written anew by streaming the old file: Flat passes through, others keep
    what they were trained to and the codes of points that stay, graphs are built again. Beside the
    index there must be room for the collection twice.
    """

    def __init__(self, uri: StoreURI, location: Location, provenance: Provenance) -> None:
        self._uri = uri
        self._location = location
        self._provenance = provenance
        self._done = False
        self._lock: IO[bytes] | None = None
        with FaissSource(uri, location) as source:
            self._description = source.describe()
        if self._description.provenance is None:
            raise MismatchError(
                f"{location.index} was not written by vecmigrate migrate",
                remedy="Name a collection that it wrote.",
            )
        self._settings = IndexSettings.model_validate(self._description.settings)
        if not can_carry(self._settings.index):
            raise MismatchError(
                f"{location.index} is of the kind {self._settings.words}: where points change, the "
                "vectors of others would too",
                remedy="Migrate to a new target instead, or choose another kind with ?index=.",
            )
        with writing(location.index):
            location.update.mkdir(exist_ok=True)
            self._lock = self._take_lock()
            try:
                complete(location)
                for path in location.update.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                self._changes = Changes(location.update / "changes", self._description.dimension)
            except BaseException:
                self._lock.close()
                raise

    def upsert(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._description.dimension, self._uri)
        vectors = scaled_for(self._description.metric, batch.vectors)
        with writing(self._location.update):
            self._changes.upsert(batch, vectors)

    def delete(self, ids: IdArray) -> None:
        self._changes.delete(ids)

    def finish(self) -> CollectionDescription:
        with writing(self._location.index):
            if len(self._changes):
                self._publish()
        self._let_go()
        self._done = True
        with FaissSource(self._uri, self._location) as source:
            return source.describe()

    def abort(self) -> None:
        if not self._done:
            self._let_go()

    def _publish(self) -> None:
        described = self._description
        made = Staging(new_files(self._location), described.dimension)
        try:
            with FaissSource(self._uri, self._location) as old:
                origins = []
                for batch, rows in self._changes.applied_to(old.batches(_READ)):
                    made.append(batch, np.ascontiguousarray(batch.vectors))
                    origins.append(rows)
            build_files(
                made,
                self._settings,
                described.metric,
                described.text_field,
                self._provenance,
                notes=described.notes,
                carried=Carried(self._location.index, np.concatenate(origins)),
            )
            exchange(self._location, made)
        finally:
            if is_exchanged(self._location):
                # The index has the name already: what lies here belongs to it.
                made.suspend()
            else:
                made.discard()

    def _take_lock(self) -> IO[bytes]:
        taken = WriteError(
            f"another run is changing {self._location.index}", remedy="Let it finish."
        )
        return take_lock(self._location.update / "lock", taken)

    def _let_go(self) -> None:
        if self._lock is None or self._lock.closed:
            return
        self._changes.discard()
        with suppress(OSError):
            # Last and only where it is empty otherwise: an exchange that failed is to be completed.
            if [path.name for path in self._location.update.iterdir()] == ["lock"]:
                (self._location.update / "lock").unlink()
                self._location.update.rmdir()
        self._lock.close()
