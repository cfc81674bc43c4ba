"""Where vectors go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from vecmigrate.batches import VectorBatch
from vecmigrate.description import CollectionDescription


class Sink(ABC):
    """A new collection being written; a context manager.

    Nothing is at the target's name for a reader to take as whole until :meth:`finish` has
    returned. Leaving the ``with`` block without it calls :meth:`abort`.
    """

    @abstractmethod
    def write(self, batch: VectorBatch) -> None:
        """Add points. Idempotent: an id written again replaces what it had.

        Raises
        ------
        MismatchError
            Where the vectors' dimension is not the collection's, or the store cannot hold an id.
        WriteError, UnreachableError
            Where the disk is full or the server refuses or is gone.
        """

    @abstractmethod
    def finish(self) -> CollectionDescription:
        """Make everything durable, publish the collection in one step and describe it."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written; may be called again, and does nothing after :meth:`finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()
