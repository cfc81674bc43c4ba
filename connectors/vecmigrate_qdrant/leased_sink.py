"""What Qdrant's sinks share: a target that one run at a time writes, under a lease."""

from __future__ import annotations

import logging
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from vecmigrate.connector import (
    BegunSink,
    CollectionDescription,
    IdArray,
    StoreURI,
    TargetExistsError,
    TargetSpec,
    VecmigrateError,
    VectorBatch,
    WriteError,
    check_dimension,
)
from vecmigrate_qdrant.access.base import Access, StrictMode
from vecmigrate_qdrant.access.places import Location
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.describe import describe
from vecmigrate_qdrant.lease import CollectionLease
from vecmigrate_qdrant.marks import Mark
from vecmigrate_qdrant.upserting import Destination

_log = logging.getLogger("vecmigrate.qdrant")


class LeasedSink(BegunSink):
    """A base for sinks; what names and makes the target is a sink's own.

    Parameters
    ----------
    added
        The vector that is added to a collection; None for a collection of the run's own.
    """

    whole_points = True
    deletes = True
    _vector: str
    _access: Access
    _where: str
    _lease: CollectionLease
    _destination: Destination
    _run: str
    _open = _created = False

    def __init__(
        self, uri: StoreURI, spec: TargetSpec, location: Location, added: str | None = None
    ) -> None:
        self._uri, self._spec, self._location, self._added = uri, spec, location, added
        self._collection = location.collection
        self._settings = spec.settings if spec.store == "qdrant" else {}

    @abstractmethod
    def _destined(self) -> Destination:
        """Return what is to be written to, in the store that was just opened."""

    @abstractmethod
    def _metadata(self, mark: Mark) -> dict[str, Any]:
        """Return the metadata of a collection that hold the target's mark."""

    @abstractmethod
    def _remove_own(self) -> None:
        """Remove the target, if it is the one that this sink made."""

    @contextmanager
    def _opened(self, run: str, *, anew: bool) -> Iterator[None]:
        """Open the store for a run, and begin to write once the target is there."""
        self._run = run
        self._access = open_access(self._location, refusal=WriteError)
        self._where = f"{self._access.place}/{self._collection}"
        self._named = f"the collection {self._where}"
        if self._added is not None:
            self._named = self._where = f"the vector {self._added!r} of {self._where}"
        self._lease = CollectionLease(self._access, self._collection, self._where, self._added)
        self._open = True
        try:
            self._destination = self._destined()
            yield
            self._access.begin_writes(self._collection)
        except BaseException:
            # What a resumed run finds is not this sink's to remove.
            self._created &= anew
            self.abort()
            raise

    def write(self, batch: VectorBatch) -> IdArray | None:
        check_dimension(batch, self._spec.dimension, self._where)
        self._lease.check()
        self._destination.write(batch)
        return None

    def delete(self, ids: IdArray) -> None:
        self._lease.check()
        self._destination.delete(ids)

    def abort(self) -> None:
        if not self._open:
            return
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
        self._open = self._created = False
        self._lease.release()
        self._access.close()

    def _new_run(self) -> str:
        provenance = self._spec.provenance
        return provenance.run() if provenance else uuid.uuid4().hex

    def _begin_anew(self, mark: Mark, *, restart: bool, count: Callable[[], int]) -> None:
        """Allow that an unfinished target, which nobody writes, is begun anew, and warn of it.

        Without ``restart`` that may be done by the same run, or by one that does the same work: it
        comes to the same points, and nothing is lost but time.

        Parameters
        ----------
        mark
            The target's.
        count
            Counts the points that are there.

        Raises
        ------
        TargetExistsError
            If it may not; says what a restart costs.
        """
        if restart or mark.run == self._run:
            return
        try:
            there = f"{count():,} points"
        except VecmigrateError:
            there = "the points"  # A collection's own limits may forbid to count.
        if self._spec.work is None or mark.work != self._spec.work:
            raise TargetExistsError(
                f"{self._named} is there, unfinished: another run, which moved other things or by "
                "other means, was stopped while it wrote it",
                remedy="Run that one again to complete it, or start over with --restart, which "
                f"throws away {there} that are there.",
            )
        self.warnings += (
            f"{there} are at the target already, left unfinished by a run that did the same; they "
            "are written again, since the record of its progress is gone",
        )

    def _publish(
        self, mark: Mark, notes: tuple[str, ...], strict_mode: StrictMode = None
    ) -> CollectionDescription:
        """Mark the target as whole and give the lease back in one step; describe the collection."""
        self._lease.renew()
        self._lease.stop()
        metadata = self._metadata(mark) | self._lease.no_entry()
        self._access.publish(self._collection, metadata, strict_mode)
        self._lease.gone()
        # Whole now, whatever happens: never again this sink's to remove.
        self._open = self._created = False
        text_field = self._spec.text_field
        with closing(self._access) as access:
            where = access, self._uri, self._collection, self._vector
            return describe(*where, text_field=text_field, notes=notes)
