"""Where vectors go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.screening import Absent


class Sink(ABC):
    """A new collection being written; a context manager.

    Nothing is at the target's name for a reader to take as whole until :meth:`finish` has
    returned. Leaving the ``with`` block without it calls :meth:`abort`.

    Attributes
    ----------
    whole_points
        True if it writes a batch's extras, and points of several vectors. Any other one gets
        points of one vector each.
    absent
        What a point without a vector is to it.
    keyed_ids
        True if it keeps points apart whose ids are spelled ``KEY/ID``, as the source does, see
        :attr:`CollectionDescription.keyed_ids`.
    warnings
        What a user should know before the first write.
    in_place
        True if it writes to points that are the source's own: what becomes of them meanwhile is
        nobody's error, and for the next sync.
    shared
        True if it does what :attr:`TargetSpec.shared` asks for: a collection that is there, or that
        is made, gets the points that it does not have. Points that others write there, before or
        meanwhile, are neither written over nor removed, by :meth:`abort` neither.
    deletes
        True if :meth:`delete` takes points out again before the target is published.
    as_of
        Set before :meth:`finish` if the target has what its source had at that time, which the
        description's provenance then tells as ``updated_at``: see
        :meth:`TargetSpec.provenance_as_of`.
    concurrent
        True if several processes may write at once, each through a sink that
        :meth:`ResumableConnector.resume_sink` makes of what :meth:`share` returned and that it
        suspends at its end.
    """

    whole_points: ClassVar[bool] = False
    absent: ClassVar[Absent] = Absent.BAD
    keyed_ids: bool = False
    warnings: tuple[str, ...] = ()
    in_place: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    concurrent: bool = False
    deletes: ClassVar[bool] = False
    as_of: str | None = None

    @abstractmethod
    def write(self, batch: VectorBatch) -> IdArray | None:
        """Add points. Idempotent: an id written again replaces what it had.

        Returns the ids of points that others have written and that were left as they are, if it is
        :attr:`shared`; else None.

        Raises
        ------
        MismatchError
            If the vectors' dimension is not the collection's, or the store cannot hold an id.
        RefusedError
            If the store refuses some of the points for what they hold; the same points in
            smaller batches then show which.
        WriteError, UnreachableError
            If the disk is full or the server refuses or is gone.
        """

    def delete(self, ids: IdArray) -> None:
        """Take points out; ids that are not there are passed over. Only if :attr:`deletes`.

        Raises
        ------
        WriteError, UnreachableError
        """
        raise NotImplementedError

    @abstractmethod
    def finish(self) -> CollectionDescription:
        """Make everything durable, publish the collection in one step and describe it."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written; may be called again, and does nothing after :meth:`finish`."""

    def checkpoint(self) -> str | None:
        """Make all that was written durable and return a token to continue from.

        :meth:`ResumableConnector.resume_sink` takes it, in this process or a later one, also if
        more was written after it. None from a sink that cannot be continued.
        """
        return None

    def share(self) -> str | None:
        """Make a checkpoint and return a token for processes that write beside this sink.

        Theirs are of use as long as this sink is open.
        """
        return self.checkpoint()

    def suspend(self) -> None:
        """Stop and leave what was written for :meth:`ResumableConnector.resume_sink`.

        :meth:`abort` then does nothing. A sink that cannot be continued removes it instead.
        """
        self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


class BegunSink(Sink):
    """A sink that is made first, and then begun or continued: making it opens and writes nothing.

    :class:`BaseConnector` makes one, and calls one of the two.
    """

    @abstractmethod
    def begin(self, *, restart: bool) -> None:
        """Begin the collection; see :meth:`Connector.open_sink` for errors."""

    @abstractmethod
    def resume(self, token: str) -> None:
        """Continue it as of a checkpoint; see :meth:`ResumableConnector.resume_sink`."""


def check_dimension(batch: VectorBatch, dimension: int, where: object) -> None:
    """Raise :class:`MismatchError` if vectors are not of the target's dimension."""
    if batch.vectors.shape[1] != dimension:
        raise MismatchError(
            f"vectors of {batch.vectors.shape[1]} dimensions for {where}, which has {dimension}",
            remedy="Use the translator that leads to the target's encoder.",
        )
