"""What Qdrant's sinks share: a target that one run at a time writes, under a lease."""

from __future__ import annotations

import logging
import uuid
from abc import abstractmethod

from vecmigrate.connector import (
    BegunSink,
    CollectionDescription,
    StoreURI,
    TargetSpec,
    VecmigrateError,
    VectorBatch,
    check_dimension,
)
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.describe import describe
from vecmigrate_qdrant.lease import Lease
from vecmigrate_qdrant.upserting import Destination

_log = logging.getLogger("vecmigrate.qdrant")


class LeasedSink(BegunSink):
    """A base for sinks; what names and opens the target is a sink's own."""

    whole_points = True
    _uri: StoreURI
    _spec: TargetSpec
    _collection: str
    _access: Access
    _where: str
    _lease: Lease
    _destination: Destination
    _run: str
    _created = False

    @abstractmethod
    def _remove_own(self) -> None:
        """Remove the target, if it is the one that this sink made."""

    def write(self, batch: VectorBatch) -> None:
        check_dimension(batch, self._spec.dimension, self._where)
        self._lease.check()
        self._destination.write(batch)

    def abort(self) -> None:
        try:
            if self._created:
                self._remove_own()
        except VecmigrateError as error:
            # Raised here it would hide why the write was given up.
            _log.warning("%s stays behind unfinished: %s", self._where, error)
        finally:
            self.suspend()

    def checkpoint(self) -> str:
        self._access.sync_writes(self._collection)
        self._lease.check()
        return self._run

    def suspend(self) -> None:
        self._created = False
        self._lease.release()
        self._access.close()

    def _new_run(self) -> str:
        provenance = self._spec.provenance
        return provenance.run() if provenance else uuid.uuid4().hex

    def _describe(self, vector: str, notes: tuple[str, ...]) -> CollectionDescription:
        return describe(
            self._access,
            self._uri,
            self._collection,
            vector,
            text_field=self._uri.options.get("text", self._spec.text_field),
            notes=notes,
        )
