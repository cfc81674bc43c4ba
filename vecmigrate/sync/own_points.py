"""A collection whose points have the old and the new vector, seen as the one or the other alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription


class OwnPoints(Source):
    """Points with one of their vectors, by which the other is made or compared.

    Only points that have the vector are seen, and of their payload only the fields named: what
    else they have is the same at the old vector and the new one, whatever it changes to.

    Parameters
    ----------
    opened
        The collection, opened for one of its vectors; closed with this.
    fields
        Payload fields that count, as the text that a translator reads.
    """

    def __init__(self, opened: Source, fields: Sequence[str]) -> None:
        self._opened = opened
        self._fields = tuple(fields)

    def describe(self) -> CollectionDescription:
        return self._opened.describe()

    def batches(
        self, batch_size: int, *, cursor: str | None = None, payloads: bool = True
    ) -> Iterator[VectorBatch]:
        wanted = payloads and bool(self._fields)
        for batch in self._opened.batches(batch_size, cursor=cursor, payloads=wanted):
            yield self._seen(batch)

    def ids(self, batch_size: int) -> Iterator[IdArray]:
        return self._opened.ids_with_vector(batch_size)

    def changed_since(
        self, field: str, value: float, batch_size: int
    ) -> Iterator[VectorBatch] | None:
        found = self._opened.changed_since(field, value, batch_size)
        if found is None:
            return None
        return (self._seen(batch.with_one_vector()) for batch in found)

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

    def _seen(self, batch: VectorBatch) -> VectorBatch:
        payloads = None
        if batch.payloads is not None:
            payloads = [
                {name: payload[name] for name in self._fields if name in payload}
                for payload in batch.payloads
            ]
        return batch.with_extras(None).with_payloads(payloads)
