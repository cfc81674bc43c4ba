"""How points of a finished collection are changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from vecmigrate.points.batch import IdArray, VectorBatch
from vecmigrate.points.collection import CollectionDescription


@dataclass(frozen=True, slots=True)
class Remnant:
    """What may still hold points that were deleted from a collection.

    Attributes
    ----------
    place
        Names it: a file, the versions of a table.
    remedy
        One sentence that says how the points go from there.
    """

    place: str
    remedy: str


class Updater(ABC):
    """A finished collection being changed; a context manager.

    Readers meanwhile see each point as it was or as it is to be, and a whole collection. Leaving
    the ``with`` block without :meth:`finish` calls :meth:`abort`. The last word on an id counts.
    """

    @abstractmethod
    def upsert(self, batch: VectorBatch) -> None:
        """Write points, whether their ids are there or not; vector and payload are replaced.

        Raises
        ------
        MismatchError
            If the vectors' dimension is not the collection's, or the store cannot hold an id.
        WriteError, UnreachableError
        """

    @abstractmethod
    def delete(self, ids: IdArray) -> None:
        """Delete points; ids that are not there are passed over."""

    def flush(self) -> bool:
        """Make what was given so far durable and visible, if the store can before the end.

        False says that readers get it at :meth:`finish` alone, all at once.
        """
        return False

    @abstractmethod
    def finish(self) -> CollectionDescription:
        """Make all changes durable and visible, and describe the collection."""

    @abstractmethod
    def abort(self) -> None:
        """Let go; what was not flushed is not there. Does nothing after :meth:`finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
