"""Points over gRPC by messages in which each vector and each payload field is one piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc

from vecmigrate.connector import InputError, PointId, VectorBatch, Vectors, id_array
from vecmigrate_qdrant.client.points import ClientPoints, filter_of
from vecmigrate_qdrant.points import UNNAMED, Found, Only, Page, Shape, ShardKey, Wanted
from vecmigrate_qdrant.wire import messages as wire
from vecmigrate_qdrant.wire.values import (
    WireExtra,
    WirePayload,
    extra_pieces,
    modern_piece,
    payload_entries,
    wire_size,
)

_FLOAT = np.dtype("<f4")
_ID_BYTES = 40


class WirePoints(ClientPoints):
    """Points of a server that is reached over gRPC.

    Vectors go from the wire into an array and back in one piece each, and payloads and other
    vectors that nobody looks into are copied as they are. Counts are qdrant-client's.
    """

    hash_form = "grpc"

    def scroll(
        self, limit: int, offset: PointId | None, wanted: Wanted, only: Only | None = None
    ) -> Page:
        let_through = filter_of(only)
        request = messages.ScrollPoints(
            collection_name=self._collection,
            limit=limit,
            offset=None if offset is None else RestToGrpc.convert_extended_point_id(offset),
            filter=None if let_through is None else RestToGrpc.convert_filter(let_through),
            **self._selectors(wanted),
        )
        answer = self._access.run(lambda client: _call(client, "Scroll", request))
        more = answer.HasField("next_page_offset")
        following = _plain_id(answer.next_page_offset) if more else None
        return Page(self._read(answer.result, wanted), following)

    def retrieve(self, ids: Sequence[PointId], wanted: Wanted) -> VectorBatch:
        request = messages.GetPoints(
            collection_name=self._collection,
            ids=map(RestToGrpc.convert_extended_point_id, ids),
            **self._selectors(wanted),
        )
        answer = self._access.run(lambda client: _call(client, "Get", request))
        found = {_plain_id(point.id): point for point in answer.result}
        return self._read([found[i] for i in ids if i in found], wanted)

    def upsert(
        self, ids: Sequence[PointId], batch: VectorBatch, *, insert_only: bool = False
    ) -> None:
        def request(client: Any) -> None:
            message = wire.UpsertPoints(collection_name=self._collection, wait=True)
            if insert_only:
                message.update_mode = messages.UpdateMode.InsertOnly
            self._set_key(message)
            self._fill(message.points, ids, batch)
            _call(client, "Upsert", message)

        self._access.run(request)

    def update_vectors(self, ids: Sequence[PointId], batch: VectorBatch) -> None:
        there = np.flatnonzero(np.array(batch.each_count()) > 0)
        if not len(there):
            return
        having = replace(batch.take(there), payloads=None, extras=None)
        message = wire.UpdatePointVectors(collection_name=self._collection, wait=True)
        self._set_key(message)
        self._fill(message.points, [ids[row] for row in there.tolist()], having)
        self._access.run(lambda client: _call(client, "UpdateVectors", message))

    def search(
        self,
        queries: Vectors,
        k: int,
        wanted: Wanted,
        *,
        matching: models.Filter | None = None,
        exact: bool = False,
        ef: int | None = None,
    ) -> list[Found]:
        name = self._shape.vector

        def asked(query: list[float]) -> Any:
            return messages.QueryPoints(
                collection_name=self._collection,
                query=messages.Query(
                    nearest=messages.VectorInput(dense=messages.DenseVector(data=query))
                ),
                using=None if name == UNNAMED else name,
                limit=k,
                filter=None if matching is None else RestToGrpc.convert_filter(matching),
                params=messages.SearchParams(exact=exact, hnsw_ef=ef) if exact or ef else None,
                **self._selectors(wanted),
            )

        def ask(client: Any) -> Any:
            request = messages.QueryBatchPoints(
                collection_name=self._collection, query_points=map(asked, queries.tolist())
            )
            return _call(client, "QueryBatch", request)

        return [
            (self._read(each.result, wanted), list(map(_key_of, each.result)))
            for each in self._access.run(ask).result
        ]

    def size(self, batch: VectorBatch) -> int:
        parts = chain(batch.payloads or (), batch.extras or ())
        return batch.vectors.nbytes + _ID_BYTES * len(batch) + wire_size(parts)

    def _selectors(self, wanted: Wanted) -> dict[str, Any]:
        return {
            "with_payload": RestToGrpc.convert_with_payload_interface(wanted.payloads),
            "with_vectors": RestToGrpc.convert_with_vectors(self._shape.selector(wanted)),
            "shard_key_selector": self._key_selector(),
        }

    def _key_selector(self) -> Any:
        return None if self.key is None else RestToGrpc.convert_shard_key_selector(self.key)

    def _set_key(self, message: Any) -> None:
        if self.key is not None:
            message.shard_key_selector.MergeFromString(self._key_selector().SerializeToString())

    def _read(self, points: Sequence[Any], wanted: Wanted) -> VectorBatch:
        shape = self._shape
        ids = id_array([_plain_id(point.id) for point in points])
        vectors = np.empty((0, shape.dimension), np.float32)
        counts: NDArray[np.intp] | None = np.zeros(len(points), np.intp)
        extras = None
        if wanted.vectors:
            vectors, counts = _matrix([_own(p, shape.vector) for p in points], shape, ids)
            if wanted.extras:
                extras = [_extra(point, shape.others) for point in points]
        payloads = [WirePayload(tuple(p.payload)) for p in points] if wanted.payloads else None
        return VectorBatch(ids, vectors, payloads, extras=extras, counts=counts)

    def _fill(self, points: Any, ids: Sequence[PointId], batch: VectorBatch) -> None:
        """Add a batch to a message's points."""
        name = self._shape.vector
        plain = name == UNNAMED and batch.extras is None and batch.counts is None
        pieces = iter(_pieces(batch.vectors))
        for row, (point_id, count) in enumerate(zip(ids, batch.each_count(), strict=True)):
            point = points.add()
            if isinstance(point_id, int):
                point.id.num = point_id
            else:
                point.id.uuid = point_id
            if batch.payloads is not None:
                point.payload.extend(payload_entries(batch.payloads[row]))
            if plain:
                point.vectors.vector.dense.data = next(pieces)
                continue
            named = point.vectors.vectors
            named.SetInParent()
            if count and self._shape.multivector:
                vectors = named.vectors[name].multi_dense.vectors
                for _ in range(count):
                    vectors.add().data = next(pieces)
            elif count:
                named.vectors[name].dense.data = next(pieces)
            if batch.extras is not None:
                for other, piece in extra_pieces(batch.extras[row]).items():
                    named.vectors[other].MergeFromString(piece)


def can_use_wire(client: Any) -> bool:
    """Tell whether the client has the channels that :class:`WirePoints` calls over."""
    return hasattr(client, "_grpc_channel_pool")


_ANSWERS = {
    "Scroll": wire.ScrollResponse,
    "Get": wire.GetResponse,
    "QueryBatch": wire.QueryBatchResponse,
    "Upsert": messages.PointsOperationResponse,
    "UpdateVectors": messages.PointsOperationResponse,
}


def _call(client: Any, method: str, request: Any) -> Any:
    """Carry out a request over the client's own channels, which send its key, within its time."""
    stub = client.grpc_points  # which opens the channels
    assert stub is not None
    channel: grpc.Channel = client._grpc_channel_pool[client._next_grpc_client()]
    call = channel.unary_unary(
        f"/qdrant.Points/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=_ANSWERS[method].FromString,
    )
    return call(request, timeout=client._timeout)


def _plain_id(point_id: Any) -> PointId:
    found: PointId = point_id.uuid or point_id.num
    return found


def _key_of(point: Any) -> ShardKey | None:
    if not point.HasField("shard_key"):
        return None
    key: ShardKey = getattr(point.shard_key, point.shard_key.WhichOneof("key"))
    return key


def _pieces(vectors: Vectors) -> list[bytes]:
    """Return ``(n, d)`` vectors as packed fields."""
    rows = np.ascontiguousarray(vectors, _FLOAT)
    pieces: list[bytes] = rows.view(f"V{_FLOAT.itemsize * rows.shape[1]}").reshape(-1).tolist()
    return pieces


def _own(point: Any, name: str) -> Any | None:
    """Return the message of one of a point's vectors, None if it has none of that name."""
    vectors = point.vectors
    if name == UNNAMED and vectors.HasField("vector"):
        return vectors.vector
    named = vectors.vectors.vectors
    return named.get(name)


def _extra(point: Any, others: Iterable[str]) -> WireExtra:
    named = point.vectors.vectors.vectors
    return WireExtra({name: modern_piece(named[name]) for name in others if name in named})


def _matrix(
    own: Sequence[Any], shape: Shape, ids: NDArray[Any]
) -> tuple[Vectors, NDArray[np.intp] | None]:
    """Return points' vectors, and how many of them each point has, None if each has one.

    Raises
    ------
    InputError
        If a vector is not of the collection's dimension.
    """
    width = _FLOAT.itemsize * shape.dimension
    if shape.multivector:
        pieces = [b"".join(_packed(vector)) for vector in own]
        sizes = np.fromiter(map(len, pieces), np.intp, len(pieces))
        counts = sizes // width
    else:
        pieces = [b"" if vector is None else vector.dense.data or vector.data for vector in own]
        sizes = np.fromiter(map(len, pieces), np.intp, len(pieces))
        counts = np.array([vector is not None for vector in own], np.intp)
    wrong = np.flatnonzero(sizes != counts * width)
    if len(wrong):
        raise InputError(
            f"the vector of point {ids[wrong[0]]} came as {sizes[wrong[0]]:,} bytes, which are no "
            f"{shape.dimension} numbers",
            remedy="Read the collection over REST, by ?grpc=false.",
        )
    vectors = np.frombuffer(b"".join(pieces), _FLOAT).astype(np.float32, copy=False)
    each_one = not shape.multivector and bool((counts == 1).all())
    return vectors.reshape(-1, shape.dimension), None if each_one else counts


def _packed(vector: Any | None) -> Iterator[bytes]:
    """Yield a multivector's numbers as they are on the wire."""
    if vector is None:
        return
    if vector.data:  # as servers before 1.16 give it
        yield vector.data
    for one in vector.multi_dense.vectors:
        yield one.data
