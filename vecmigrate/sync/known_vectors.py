"""A source seen without the vectors that its target has no place for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import IdArray, PointId, VectorBatch
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.verification.vectors import without_vectors


class KnownVectors(Source):
    """Points without the other vectors named, which then are no change of theirs.

    Parameters
    ----------
    opened
        The collection; closed with this.
    unknown
        Names of vectors that the source got after the migration.
    """

    def __init__(self, opened: Source, unknown: Sequence[str]) -> None:
        self._opened = opened
        self._unknown = unknown
        self._none_left = not set(opened.describe().other_vectors) - set(unknown)

    def describe(self) -> CollectionDescription:
        return self._opened.describe()

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        return self._opened.batches(batch_size, cursor=cursor, payloads=payloads)

    def whole_batches(self, batch_size: int, *, cursor: str | None = None) -> Iterator[VectorBatch]:
        return map(self._seen, self._opened.whole_batches(batch_size, cursor=cursor))

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids(batch_size)

    def ids_with_vector(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids_with_vector(batch_size)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        found = self._opened.changed_since(field, value, batch_size)
        return None if found is None else map(self._seen, found)

    def fetch(self, ids: Sequence[PointId] | IdArray) -> VectorBatch:
        return self._seen(self._opened.fetch(ids))

    def fingerprint(self) -> str:
        return self._opened.fingerprint()

    def close(self) -> None:
        self._opened.close()

    def _seen(self, batch: VectorBatch) -> VectorBatch:
        if batch.extras is None or self._none_left:
            return batch.with_extras(None)
        return batch.with_extras([without_vectors(e, self._unknown) for e in batch.extras])
