"""A collection seen as a sync is to compare it: without what is not its business."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors
from vecmigrate.points.checksums import IN_PLACE_FORM
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.verification.vectors import without_vectors


class View(Source):
    """Another source's points, each batch of them seen through :meth:`_seen`.

    Parameters
    ----------
    opened
        The collection; closed with this.
    """

    def __init__(self, opened: Source) -> None:
        self._opened = opened
        self.hash_form = opened.hash_form
        self.changes_told_by = opened.changes_told_by

    @abstractmethod
    def _seen(self, batch: VectorBatch) -> VectorBatch:
        """Return the points as they are to be compared."""

    def describe(self) -> CollectionDescription:
        return self._opened.describe()

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        return map(self._seen, self._opened.batches(batch_size, cursor=cursor, payloads=payloads))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids(batch_size)

    def ids_with_vector(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids_with_vector(batch_size)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        found = self._opened.changed_since(field, value, batch_size)
        return None if found is None else map(self._seen, found)

    def latest_value(self, field: str) -> str | float | None:
        return self._opened.latest_value(field)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        return self._seen(self._opened.fetch(ids))

    def search(self, queries: Vectors, k: int) -> list[IdArray] | None:
        return self._opened.search(queries, k)

    def rounding(self) -> float:
        return self._opened.rounding()

    def payload_ulps(self) -> int:
        return self._opened.payload_ulps()

    def as_stored(self, vectors: Vectors) -> Vectors:
        return self._opened.as_stored(vectors)

    def fingerprint(self) -> str:
        return self._opened.fingerprint()

    def close(self) -> None:
        self._opened.close()


class OwnPoints(View):
    """Points with the old and the new vector, seen as the one or the other alone.

    Only points that have the vector are seen, and of their payload only the fields named: what
    else they have is the same at the old vector and the new one, whatever it changes to.

    Parameters
    ----------
    opened
        The collection, opened for one of its vectors.
    fields
        Payload fields that count, as the text that a translator reads.
    """

    def __init__(self, opened: Source, fields: Sequence[str]) -> None:
        super().__init__(opened)
        self._fields = tuple(fields)
        self.hash_form = IN_PLACE_FORM

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        return super().batches(batch_size, cursor=cursor, payloads=payloads and bool(self._fields))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids_with_vector(batch_size)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        found = super().changed_since(field, value, batch_size)
        return None if found is None else (batch.with_one_vector() for batch in found)

    def _seen(self, batch: VectorBatch) -> VectorBatch:
        return batch.with_fields_alone(self._fields)


class KnownVectors(View):
    """Points without the other vectors named, which then are no change of theirs.

    Parameters
    ----------
    unknown
        Names of vectors that the source got after the migration.
    """

    def __init__(self, opened: Source, unknown: Sequence[str]) -> None:
        super().__init__(opened)
        self._unknown = unknown
        self._none_left = not set(opened.describe().other_vectors) - set(unknown)

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        return map(self._seen, self._opened.whole_batches(batch_size, cursor=cursor))

    def _seen(self, batch: VectorBatch) -> VectorBatch:
        if batch.extras is None or self._none_left:
            return batch.with_extras(None)
        return batch.with_extras([without_vectors(e, self._unknown) for e in batch.extras])
