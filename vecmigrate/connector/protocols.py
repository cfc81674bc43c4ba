"""What a connector offers: the protocols, of which an entry point names an object."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar, Protocol, runtime_checkable

from vecmigrate.connector.sink import BegunSink, Sink
from vecmigrate.connector.source import Source
from vecmigrate.connector.switcher import Switcher
from vecmigrate.connector.updater import Remnant, Updater
from vecmigrate.connector.uri import StoreURI
from vecmigrate.points.collection import Provenance, TargetSpec


@runtime_checkable
class ResumableConnector(Protocol):
    """What a connector offers beyond :class:`Connector` if its sinks can be continued."""

    def resume_sink(self, uri: StoreURI, spec: TargetSpec, token: str) -> Sink:
        """Continue the collection that a sink left behind, as of its checkpoint ``token``.

        What was written after that checkpoint may be there or not: it is written again. Where the
        collection is finished, what publishing it may have left beside it is removed.

        Raises
        ------
        TargetExistsError
            If the target is there, finished, or is another run's.
        LockedError
            If another run writes it now.
        MismatchError
            If nothing of that checkpoint is left.
        UsageError, UnreachableError, WriteError
        """
        ...


@runtime_checkable
class UpdatableConnector(Protocol):
    """What a connector offers beyond :class:`Connector` if finished collections can change."""

    def open_updater(self, uri: StoreURI, provenance: Provenance | None) -> Updater:
        """Open a finished collection, to change points of it.

        Parameters
        ----------
        provenance
            What the collection is to say of itself. Where points change in place it says so before
            the first one does, so that a change is noticed even if the run is killed.

        What an earlier update left when it was killed is completed or removed.

        Raises
        ------
        InputError
            If the collection is not there.
        MismatchError
            If it is unfinished, or cannot be changed without losing something.
        UsageError, UnreachableError, WriteError
        """
        ...


@runtime_checkable
class ErasingConnector(Protocol):
    """What an :class:`UpdatableConnector` offers if it knows what is left of deleted points."""

    def erase_deleted(self, uri: StoreURI) -> tuple[Remnant, ...]:
        """Overwrite what the store keeps of points that were deleted from a finished collection.

        Returns what the store does not let go at once, and may still hold such points.

        Raises
        ------
        InputError
            If the collection is not there.
        UsageError, UnreachableError, WriteError
        """
        ...


@runtime_checkable
class LeasingConnector(Protocol):
    """What a connector offers beyond :class:`Connector` if a run can keep others from a target."""

    def held(self, uri: StoreURI) -> AbstractContextManager[None]:
        """Hold the lease on a collection that is there, whichever name leads to it.

        Meanwhile no other run, on another machine either, changes it. What this run opens there
        is under the same lease. See :meth:`Lease.held`.

        Raises
        ------
        LockedError
            If another run changes it now; names that.
        InputError
            If the collection is not there.
        UsageError, UnreachableError, WriteError
        """
        ...


class Connector(Protocol):
    """Opens collections of one store.

    An object without :meth:`canonical` gets :meth:`StoreURI.canonical`, and one without
    :attr:`reaching` has no such options.

    Attributes
    ----------
    reaching
        Options of a URI that say how a collection is reached, not which one or what of it: a job
        that was begun with others is continued.
    """

    reaching: ClassVar[frozenset[str]] = frozenset()

    def canonical(self, uri: StoreURI) -> str:
        """Return the one name of a collection, without options: the same from any directory.

        By this text two collections are compared, and jobs, locks and records found again. It is
        that of the collection, whichever of its vectors the URI names. Nothing need be there, and
        nothing is asked of a server.

        Raises
        ------
        UsageError
            If the URI is not understood.
        """
        return uri.canonical()

    def open_source(self, uri: StoreURI) -> Source:
        """Open a collection for reading.

        Raises
        ------
        UsageError
            If the URI is not understood.
        InputError
            If the collection is not there or cannot be read.
        UnreachableError
            If its server does not answer.
        """
        ...

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        """Begin a new collection.

        Parameters
        ----------
        restart
            Throw away what an earlier run left unfinished at this target. A finished collection
            is never replaced.

        What was left by a run of the same :meth:`Provenance.run` is begun anew without being asked:
        that run was killed before its first checkpoint was known. What was left by a run of the
        same :attr:`TargetSpec.work` may be, which the sink then tells in its warnings.

        Raises
        ------
        TargetExistsError
            If the target is there: finished, or (without ``restart``) unfinished.
        LockedError
            If another run writes it now, ``restart`` or not.
        UsageError, MismatchError, UnreachableError, WriteError
        """
        ...


class SwitchingConnector(Connector, Protocol):
    """A connector whose store can also lead readers from one collection to another; optional."""

    def switcher(self) -> Switcher:
        """Return what moves readers of this store."""
        ...


class BaseConnector(Connector):
    """A base for connectors whose sinks are of :class:`BegunSink`."""

    @abstractmethod
    def sink(self, uri: StoreURI, spec: TargetSpec) -> BegunSink:
        """Make a sink, which is neither begun nor continued yet."""

    def open_sink(self, uri: StoreURI, spec: TargetSpec, *, restart: bool = False) -> Sink:
        sink = self.sink(uri, spec)
        sink.begin(restart=restart)
        return sink

    def resume_sink(self, uri: StoreURI, spec: TargetSpec, token: str) -> Sink:
        sink = self.sink(uri, spec)
        sink.resume(token)
        return sink
