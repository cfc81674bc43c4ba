"""Over gRPC, messages in pieces and qdrant-client's models read and write the same points."""

from __future__ import annotations

import json
import math
import pickle
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.http.exceptions import UnexpectedResponse
from support.qdrant.loopback.grpc_server import Points as LoopbackPoints
from support.qdrant.places import SERVED, Place, open_place, params
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.client.points import ClientPoints
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.location import parse_location
from vecmigrate_qdrant.points import Page, Shape, ShardKey, Wanted
from vecmigrate_qdrant.wire.points import WirePoints
from vecmigrate_qdrant.wire.values import WireExtra, WirePayload, payload_entries

from vecmigrate.connector import (
    InputError,
    PointId,
    RefusedError,
    VectorBatch,
    WriteError,
    id_array,
    parse_uri,
)
from vecmigrate.points.batch import with_fields

KINDS = (ClientPoints, WirePoints)
SIZE = 5
EVERYTHING = Wanted(extras=True)
IDS: list[PointId] = [0, 7, 2**53 + 1, 2**63 + 5, *(str(uuid.UUID(int=n)) for n in (3, 2**90))]
# Doubles that have few digits, since a server changes the last bit of others.
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"null": None, "true": True, "false": False, "empty": "", "text": "Ümläut \u2028 🙂"},
    {
        "least": -(2**63),
        "most": 2**63 - 1,
        "zero": 0,
        "double": -1.25,
        "whole": 3.0,
        "tiny": 2**-30,
    },
    {"list": [1, "a", None, [], [[2.5]], {"x": [{}]}], "nothing": []},
    {"tree": {"a": {"b": {"c": [1, 2, {"d": None}]}}, "": 1}, "none": {}},
    {"a name with spaces.and[dots]": 1, "long": "x" * 70_000},
]
MANY = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


def sparse(row: int) -> models.SparseVector:
    return models.SparseVector(indices=[row, 300 + row, 2**31], values=[0.5, row + 0.25, -1.0])


def dense(row: int, size: int = SIZE) -> list[float]:
    return np.random.default_rng(row).standard_normal(size).astype(np.float32).tolist()


SHAPES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "unnamed": ({"vectors_config": params(SIZE)}, "", lambda row: dense(row)),
    "named": (
        {"vectors_config": {"new": params(SIZE), "old": params(3)}},
        "new",
        lambda row: {"new": dense(row)} | ({"old": dense(row, 3)} if row % 2 else {}),
    ),
    "missing": (
        {"vectors_config": {"new": params(SIZE), "old": params(3)}},
        "new",
        lambda row: ({"new": dense(row)} if row % 3 else {}) | {"old": dense(row, 3)},
    ),
    "sparse": (
        {
            "vectors_config": {"new": params(SIZE)},
            "sparse_vectors_config": {"words": models.SparseVectorParams()},
        },
        "new",
        lambda row: {"new": dense(row)} | ({"words": sparse(row)} if row % 2 else {}),
    ),
    "several": (
        {"vectors_config": {"new": params(SIZE, multivector_config=MANY), "old": params(3)}},
        "new",
        lambda row: (
            ({"new": [dense(at) for at in range(row)]} if row else {}) | {"old": dense(row, 3)}
        ),
    ),
    "others-several": (
        {"vectors_config": {"new": params(SIZE), "parts": params(3, multivector_config=MANY)}},
        "new",
        lambda row: {"new": dense(row), "parts": [dense(at, 3) for at in range(1 + row)]},
    ),
}

BY_GRPC = [SERVED[1], SERVED[3]]


@pytest.fixture(params=BY_GRPC)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@contextmanager
def access_of(place: Place, name: str, refusal: Any = WriteError) -> Iterator[Access]:
    with closing(open_access(parse_location(parse_uri(place.uri(name))), refusal=refusal)) as open_:
        yield open_


def make(place: Place, shape: str, *, filled: bool = True) -> tuple[str, Shape]:
    """A collection, filled through a plain client."""
    arguments, vector, vectors = SHAPES[shape]
    name = place.name(shape)
    with place.client() as client:
        client.create_collection(name, **arguments)
        if filled:
            rows = enumerate(zip(IDS, PAYLOADS, strict=True))
            client.upsert(
                name,
                [models.PointStruct(id=i, payload=p, vector=vectors(row)) for row, (i, p) in rows],
                wait=True,
            )
        return name, Shape.of(client.get_collection(name).config.params, vector)


def held(place: Place, name: str) -> dict[Any, Any]:
    """What a collection holds, as a plain client reads it."""
    with place.client() as client:
        records, _ = client.scroll(name, limit=100, with_vectors=True)
    return {record.id: (record.payload, record.vector) for record in records}


def assert_equal(one: VectorBatch, other: VectorBatch) -> None:
    assert one.ids.dtype == other.ids.dtype
    assert one.ids.tolist() == other.ids.tolist()
    np.testing.assert_array_equal(one.vectors, other.vectors)
    assert one.payloads == other.payloads
    assert one.extras == other.extras
    assert (one.counts is None) == (other.counts is None)
    if one.counts is not None:
        assert one.counts.tolist() == other.counts.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "wanted",
    [EVERYTHING, Wanted(), Wanted(payloads=False), Wanted(vectors=False)],
    ids=["everything", "own", "vectors", "payloads"],
)
def test_both_read_the_same(place: Place, shape: str, wanted: Wanted) -> None:
    name, seen = make(place, shape)
    with access_of(place, name) as access:
        theirs, ours = (kind(access, name, seen) for kind in KINDS)
        offset: PointId | None = None
        pages: list[tuple[Page, Page]] = []
        while not pages or offset is not None:
            pages.append((theirs.scroll(4, offset, wanted), ours.scroll(4, offset, wanted)))
            offset = pages[-1][0].following
        for one, other in pages:
            assert one.following == other.following
            assert_equal(one.batch, other.batch)
        assert sum(len(one.batch) for one, _ in pages) == len(IDS)
        asked = [IDS[4], 12345, IDS[1], IDS[3]]
        found = ours.retrieve(asked, wanted)
        assert found.ids.tolist() == [IDS[4], IDS[1], IDS[3]]
        assert_equal(theirs.retrieve(asked, wanted), found)


@pytest.mark.parametrize("looked_into", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("reader", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_either_read_either_writes(
    place: Place, shape: str, reader: type[ClientPoints], looked_into: bool
) -> None:
    old, seen = make(place, shape)
    with access_of(place, old) as access:
        batch = reader(access, old, seen).scroll(100, None, EVERYTHING).batch
        if looked_into:
            assert batch.payloads is not None
            assert batch.extras is not None
            batch = batch.with_payloads([dict(p) for p in batch.payloads])
            batch = batch.with_extras([dict(e) for e in batch.extras])
        for writer in KINDS:
            new, _ = make(place, shape, filled=False)
            writer(access, new, seen).upsert(batch.ids.tolist(), batch)
            assert held(place, new) == held(place, old)


@pytest.mark.parametrize("shape", ["named", "missing", "several"])
def test_vectors_alone_are_changed(place: Place, shape: str) -> None:
    names = [make(place, shape) for _ in KINDS]
    for kind, (name, seen) in zip(KINDS, names, strict=True):
        with access_of(place, name) as access:
            points = kind(access, name, seen)
            batch = points.scroll(100, None, EVERYTHING).batch
            batch = batch.with_vectors(batch.vectors[::-1].copy())
            points.update_vectors(batch.ids.tolist(), batch)
    changed = [held(place, name) for name, _ in names]
    assert changed[0] == changed[1]
    assert changed[0] != held(place, make(place, shape)[0])


def test_points_are_under_their_shard_keys(place: Place) -> None:
    name, keys = place.name("keyed"), ("eu", 7)
    with place.client() as client:
        try:
            client.create_collection(
                name, vectors_config=params(SIZE), sharding_method=models.ShardingMethod.CUSTOM
            )
            for key in keys:
                client.create_shard_key(name, key)
        except UnexpectedResponse as error:
            pytest.skip(f"the server is no cluster ({error})")
    written: dict[ShardKey, VectorBatch] = {
        key: VectorBatch(
            id_array([1, 2]), np.full((2, SIZE), number + 1, np.float32), [{"key": key}, {}]
        )
        for number, key in enumerate(keys)
    }
    with access_of(place, name) as access:
        theirs, ours = (kind(access, name, Shape("", SIZE)) for kind in KINDS)
        for key, batch in written.items():
            ours.under(key).upsert([1, 2], batch)
        for key, batch in written.items():
            for points in (theirs, ours):
                assert_equal(points.under(key).scroll(10, None, Wanted()).batch, batch)
                assert_equal(points.under(key).retrieve([1, 2], Wanted()), batch)
                assert points.under(key).count() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_integer_beyond_64_bits_is_refused(place: Place, kind: type[ClientPoints]) -> None:
    name, seen = make(place, "unnamed", filled=False)
    batch = VectorBatch(id_array([1]), np.ones((1, SIZE), np.float32), [{"n": 2**63}])
    with access_of(place, name) as access, pytest.raises(RefusedError):
        kind(access, name, seen).upsert([1], batch)
    assert held(place, name) == {}


class OlderPoints(LoopbackPoints):
    """As servers before Qdrant 1.16 give vectors: numbers of all of them in one list."""

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = super().Scroll(request, context)
        for point in answer.result:
            vectors = point.vectors
            named = vectors.vectors.vectors
            for vector in [named[n] for n in named] or [vectors.vector]:
                _as_before(vector)
        return answer


def _as_before(vector: Any) -> None:
    kind = vector.WhichOneof("vector")
    if kind is None:
        return
    value = getattr(vector, kind)
    flat: list[float] = []
    if kind == "sparse":
        flat = list(value.values)
        vector.indices.data.extend(list(value.indices))
    elif kind == "multi_dense":
        flat = [number for one in value.vectors for number in one.data]
        vector.vectors_count = len(value.vectors)
    else:
        flat = list(value.data)
    vector.ClearField(kind)
    vector.data.extend(flat)


@pytest.mark.parametrize("shape", ["unnamed", "named", "sparse", "several", "others-several"])
def test_older_servers_are_read(tmp_path: Path, shape: str) -> None:
    with open_place("grpc", tmp_path) as place:
        name, seen = make(place, shape)
        server = grpc.server(ThreadPoolExecutor(2))
        q.add_PointsServicer_to_server(OlderPoints(place.engine), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            now = parse_location(parse_uri(place.uri(name)))
            before = parse_location(
                parse_uri(f"{place.base}/{name}?retries=0&grpc=true&grpc_port={port}")
            )
            with (
                closing(open_access(now, refusal=InputError)) as modern,
                closing(open_access(before, refusal=InputError)) as older,
            ):
                expected = ClientPoints(modern, name, seen).scroll(100, None, EVERYTHING).batch
                found = WirePoints(older, name, seen).scroll(100, None, EVERYTHING).batch
                assert_equal(expected, found)
                new, _ = make(place, shape, filled=False)
                WirePoints(modern, new, seen).upsert(found.ids.tolist(), found)
            assert held(place, new) == held(place, name)
        finally:
            server.stop(None).wait()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)
PAYLOAD = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), JSON, max_size=4)


def as_client(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as it would come back by qdrant-client's models."""
    return GrpcToRest.convert_payload(
        q.PointStruct.FromString(
            q.PointStruct(payload=RestToGrpc.convert_payload(dict(payload))).SerializeToString()
        ).payload
    )


@given(PAYLOAD, PAYLOAD)
def test_a_payload_is_what_qdrant_client_makes_of_it(
    payload: dict[str, Any], more: dict[str, Any]
) -> None:
    lazy = WirePayload(tuple(payload_entries(payload)))
    expected = as_client(payload)
    assert lazy == expected
    assert expected == lazy
    assert dict(lazy) == {**lazy} == expected
    assert len(lazy) == len(expected)
    assert json.dumps(lazy, default=dict, sort_keys=True) == json.dumps(expected, sort_keys=True)
    again = pickle.loads(pickle.dumps(lazy))
    assert type(again) is dict
    assert again == expected
    joined = with_fields(lazy, more)
    assert isinstance(joined, WirePayload)
    assert dict(WirePayload(tuple(joined.entries))) == as_client({**payload, **more})


def test_a_double_that_is_no_number_is_told_as_by_qdrant_client() -> None:
    odd = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0}
    lazy = WirePayload(tuple(payload_entries(odd)))
    assert dict(lazy) == as_client(odd)
    assert math.copysign(1, lazy["d"]) == -1


def test_an_extra_is_pickled_as_a_plain_one() -> None:
    piece = q.VectorOutput(dense=q.DenseVector(data=[0.5, 1.5])).SerializeToString()
    extra = WireExtra({"old": piece})
    assert extra == {"vectors": {"old": [0.5, 1.5]}}
    assert type(pickle.loads(pickle.dumps(extra))) is dict
    assert WireExtra({}) == {}


def test_a_payload_without_a_field_is_as_if_it_had_never_had_it() -> None:
    fields = {"text": "ü", "n": [1, None, {"x": 0.1}]}
    plain = WirePayload(payload_entries(fields))
    marked = WirePayload(payload_entries({"mark": "a", **fields})) | {"mark": "b"}
    assert marked.without("mark").canonical_bytes() == plain.canonical_bytes()
    assert dict(marked.without("mark")) == dict(plain.without("mark")) == fields
