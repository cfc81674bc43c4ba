"""Sources that several processes can read, a range each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from vecmigrate.points.batch import VectorBatch
from vecmigrate.source import Source


class PartitionedSource(Source):
    """A source whose points fall into ranges that are read apart, in other processes too."""

    @abstractmethod
    def partitions(
        self, batch_size: int, *, batches: int, cursor: str | None = None
    ) -> Iterator[str]:
        """Yield a token for each range, in the order of :meth:`Source.batches`.

        A token is a text that :meth:`partition_batches` of the same source takes, opened by any
        process. Ranges share no point, and together they are what :meth:`Source.batches` yields
        after ``cursor``. With the same source and sizes the tokens are the same; after a cursor,
        all but the first are among those without one, so that what was made of a range is found
        again.

        Parameters
        ----------
        batch_size
            That of the batches.
        batches
            How many of them a range is to have, about.
        cursor
            As in :meth:`Source.batches`.

        Raises
        ------
        UsageError
            Where only one process can have this collection open, or the cursor is not one of its.
        """

    @abstractmethod
    def partition_batches(
        self, token: str, batch_size: int, *, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        """Yield a range's points, in the batches and with the cursors of :meth:`Source.batches`.

        Raises
        ------
        UsageError
            Where the token is not one of this source's.
        InputError
            Where stored data cannot be read.
        """
