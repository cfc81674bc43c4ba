"""Where vectors come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import ClassVar, Self

from vecmigrate.errors import InputError
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription


class Source(ABC):
    """A collection open for reading; a context manager. It is never modified.

    A source may be read from a thread other than the one that opened it, one thread at a time.

    Attributes
    ----------
    fingerprint_tells_all
        True where :meth:`fingerprint` changes with every change, a vector's in its place too.
    holds_bare_points
        True if a point without a vector is a point all the same, which :meth:`whole_batches` gives.
    """

    fingerprint_tells_all: ClassVar[bool] = False
    holds_bare_points: ClassVar[bool] = False

    @abstractmethod
    def describe(self) -> CollectionDescription:
        """Describe the collection without reading all of it."""

    @abstractmethod
    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        """Yield all points that have a vector, in a stable order, at most ``batch_size`` at a time.

        Parameters
        ----------
        cursor
            Start after the batch that carried this cursor. With the same source, what follows is
            what would have followed there, whatever the batch sizes.
        payloads
            False leaves payloads out, which spares reading them.

        Raises
        ------
        InputError
            Where stored data cannot be read.
        UsageError
            Where the cursor is not one of this source's, or points have several vectors each.
        """

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        """Yield all points with all that the store keeps of them, as a copy is to have it.

        As :meth:`batches` with payloads; override where the store keeps extras of a point, or
        points with several vectors or none (which :meth:`batches` passes over).
        """
        return self.batches(batch_size, cursor=cursor)

    @abstractmethod
    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        """Return the points with these ids, payloads and extras too, in the order asked for.

        Raises
        ------
        MissingIdsError
            Names the ids that are not there.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; may be called again."""

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        """Yield all ids. Override where ids can be read without the vectors."""
        return self.ids_with_vector(batch_size)

    def ids_with_vector(self, batch_size: int) -> Iterator[IdArray]:
        """Yield the ids of all points that have a vector; override as :meth:`ids`."""
        for batch in self.batches(batch_size, payloads=False):
            yield batch.ids

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        """Yield the points whose payload field is not before a value, as a copy is to have them.

        Others may come too. None if the store cannot tell without reading all of its points, or
        for some of them not at all; override where it has indexes of payload fields.

        Parameters
        ----------
        value
            A number; if the field holds ISO 8601 times, the seconds since 1970, in UTC if a time
            names no zone.
        """
        return None

    def fingerprint(self) -> str:
        """Return a text that changes when the collection does, as far as can be told cheaply.

        By default of the description without the URI and the notes, which depend on how it is
        reached, so that a changed count is noticed. Override where the store tells more, as a
        file's size and time.
        """
        return self.describe().fingerprint()

    def texts(self, ids: Sequence[PointId] | IdArray) -> list[str | None]:
        """Return the embedded text of each id, None where a point has none.

        Raises
        ------
        InputError
            Where no payload field is known to hold the text.
        """
        description = self.describe()
        field = description.text_field
        if field is None:
            raise InputError(
                f"{description.uri} has no payload field that holds the text",
                remedy="Name it in the URI, as ?text=FIELD (FAISS: with a sidecar, ?sidecar=FILE).",
            )
        return self.fetch(ids).texts(field) or [None] * len(ids)

    def search(self, queries: Vectors, k: int) -> list[IdArray] | None:
        """Return each query's nearest points as the store's own index finds them, best first.

        Override where the store searches, so that what its index loses can be measured; None says
        that it does not. The search is a reader's: with the parameters that the collection has.

        Parameters
        ----------
        queries
            ``(n, d)`` float32, in the collection's space.
        k
            How many; an approximate index may find fewer.
        """
        return None

    def search_exactly(self, queries: Vectors, k: int) -> list[IdArray] | None:
        """As :meth:`search`, comparing with all points by the store's own arithmetic.

        Override if the store can, so that what the data lose (ties, rounded vectors) is not blamed
        on the index; None if it cannot.
        """
        return None

    def unmeasurable(self, queries: Vectors, k: int) -> str | None:
        """Say why :meth:`search` for ``k`` points tells nothing of the index, None if it does.

        Parameters
        ----------
        queries
            ``(n, d)`` float32, what is to be searched for.
        """
        return None

    def search_parameter(self) -> str | None:
        """Name what raises the recall of :meth:`search`, as ``nprobe (now 8)``; None if exact."""
        return None

    def rounding(self) -> float:
        """Tell how far a stored vector may lie from what was written, relative to its length.

        0 where the store keeps float32; override where it keeps less.
        """
        return 0.0

    def payload_ulps(self) -> int:
        """Tell how many units in the last place a payload's float may be off what was written.

        0 where the store keeps doubles to the bit; override where it changes them.
        """
        return 0

    def as_stored(self, vectors: Vectors) -> Vectors:
        """Return ``(n, d)`` vectors as they would come back if they were written here.

        Themselves where the store keeps float32; override where it encodes them, so that what its
        own encoding loses is not taken for a wrong vector.
        """
        return vectors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
