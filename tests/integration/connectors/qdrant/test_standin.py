"""The loopback Qdrant server is like a real one, and a real one is as these tests say.

Each test runs at both, by REST and by gRPC, through qdrant-client alone: what the connector's tests
stand on.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import UnexpectedResponse
from support.qdrant.loopback.errors import CODES
from support.qdrant.loopback.numbers import read_float
from support.qdrant.places import SERVED, SERVER, Place, need_shard_keys, open_place

SIZE = 4
RNG = random.Random(0)


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def client(place: Place) -> Iterator[QdrantClient]:
    """A client that speaks what the place is for."""
    url = SERVER if place.engine is None else place.base.replace("qdrant:", "http:")
    opened = QdrantClient(
        url=url,
        prefer_grpc=place.grpc_port is not None,
        grpc_port=place.grpc_port or 6334,
        check_compatibility=False,
        timeout=60,
    )
    try:
        yield opened
    finally:
        opened.close()


def vector() -> list[float]:
    return [RNG.random() for _ in range(SIZE)]


def made(place: Place, client: QdrantClient, count: int = 0, **how: Any) -> str:
    name = place.name()
    params = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    client.create_collection(name, **{"vectors_config": {"text": params, "title": params}, **how})
    if count:
        put(client, name, range(count))
    return name


def put(client: QdrantClient, name: str, ids: Any, **where: Any) -> None:
    points = [
        models.PointStruct(
            id=i, vector={"text": vector(), "title": vector()}, payload={"n": i, "text": f"t {i}"}
        )
        for i in ids
    ]
    client.upsert(name, points, wait=True, **where)


def limit(client: QdrantClient, name: str, **limits: Any) -> None:
    client.update_collection(
        name, strict_mode_config=models.StrictModeConfig(enabled=True, **limits)
    )


def refused(request: Callable[[], object]) -> tuple[int, str, int | None]:
    """The HTTP status that a request is refused with, or the one of its gRPC code; why; until."""
    by_code = {code: status for status, code in CODES.items()}
    with pytest.raises((UnexpectedResponse, grpc.RpcError, ResourceExhaustedResponse)) as raised:
        request()
    error: Any = raised.value
    if isinstance(error, ResourceExhaustedResponse):
        return 429, error.message, error.retry_after_s
    if isinstance(error, UnexpectedResponse):
        assert error.status_code is not None
        said = error.structured()["status"]["error"]
        after = error.headers.get("retry-after")
        return error.status_code, said, None if after is None else int(after)
    after = dict(error.trailing_metadata() or ()).get("retry-after")
    return by_code[error.code()], error.details(), None if after is None else int(after)


# Orders


def test_maps_have_an_order_of_their_own(place: Place, client: QdrantClient) -> None:
    params = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    vectors = [f"vector_{n}" for n in range(8)]
    name = made(place, client, vectors_config=dict.fromkeys(vectors, params))
    fields = [f"field_{n}" for n in range(12)]
    for field in fields:
        client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD, wait=True)
    payload = {field: {key: n for n, key in enumerate("abcdefgh")} for field in fields}
    named: Any = {each: vector() for each in vectors}
    point = models.PointStruct(id=1, vector=named, payload=payload)
    client.upsert(name, [point], wait=True)
    schemas = {tuple(client.get_collection(name).payload_schema) for _ in range(20)}
    assert len(schemas) > 1
    records = [client.retrieve(name, [1], with_vectors=True)[0] for _ in range(40)]
    assert all(record.payload == payload for record in records)
    orders = {tuple(record.payload or {}) for record in records}
    nested = {tuple((record.payload or {})["field_0"]) for record in records}
    if place.wire == "grpc":
        assert max(len(orders), len(nested)) > 1
    else:
        assert (len(orders), len(nested)) == (1, 1)
        assert len({tuple(record.vector or {}) for record in records}) > 1


def test_stop_words_have_an_order_of_their_own(place: Place, client: QdrantClient) -> None:
    name = made(place, client)
    words = models.StopwordsSet(
        languages=[models.Language.GERMAN, models.Language.ENGLISH], custom=["qdrant", "a", "c"]
    )
    params = models.TextIndexParams(type=models.TextIndexType.TEXT, stopwords=words)
    client.create_payload_index(name, "text", params, wait=True)
    found = client.get_collection(name).payload_schema["text"].params
    assert isinstance(found, models.TextIndexParams)
    assert isinstance(found.stopwords, models.StopwordsSet)
    assert found.stopwords.custom == ["a", "c", "qdrant"]
    assert found.stopwords.languages == [models.Language.ENGLISH, models.Language.GERMAN]


# Numbers


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_reading_a_number_errs_by_two_units_at_most(value: float) -> None:
    assert abs(read_float(repr(value)) - value) <= 2 * math.ulp(value)


def test_the_last_bits_of_doubles_change(place: Place, client: QdrantClient) -> None:
    name = made(place, client)
    values = [RNG.random() for _ in range(2000)]
    values += [RNG.uniform(-90, 90) * 10 ** RNG.randint(-12, 12) for _ in range(1000)]
    values += [0.0, 0.1, 0.5, 1e22, 1e300, 5e-324, -1.5]

    def store(stored: list[float]) -> list[float]:
        points = [
            models.PointStruct(id=i, vector={"text": vector()}, payload={"x": value})
            for i, value in enumerate(stored)
        ]
        client.upsert(name, points, wait=True)
        found, _ = client.scroll(name, limit=len(stored))
        return [float((record.payload or {})["x"]) for record in found]

    first = store(values)
    # By REST a number is read twice: as it comes, and from the server's storage.
    readings = 1 if place.wire == "grpc" else 2
    expected = values
    for _ in range(readings):
        expected = [read_float(repr(value)) for value in expected]
    assert first == expected
    changed = sum(a != b for a, b in zip(first, values, strict=True)) / len(values)
    assert 0.05 < changed < 0.3
    again, _ = client.scroll(name, limit=len(values))
    assert [float((record.payload or {})["x"]) for record in again] == first
    assert store(first) != first


def test_integers_stay(place: Place, client: QdrantClient) -> None:
    name = made(place, client)
    whole = [2**53 + 1, 2**62 + 3, -(2**63), 0]
    point = models.PointStruct(id=1, vector={"text": vector()}, payload={"whole": whole})
    client.upsert(name, [point], wait=True)
    assert (client.retrieve(name, [1])[0].payload or {})["whole"] == whole


def test_settings_of_32_bits(place: Place, client: QdrantClient) -> None:
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
    name = made(place, client, quantization_config=models.ScalarQuantization(scalar=scalar))
    found = client.get_collection(name).config.quantization_config
    assert isinstance(found, models.ScalarQuantization)
    grpc_value = float(np.float32(0.99))
    assert found.scalar.quantile == (0.99 if place.wire == "rest" else grpc_value)


# Strict mode


def test_pages_are_limited(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 60)
    limit(client, name, max_query_limit=50)
    assert len(client.scroll(name, limit=50)[0]) == 50
    assert len(client.retrieve(name, list(range(60)))) == 60
    query = {"query": vector(), "using": "text"}
    assert len(client.query_points(name, limit=50, **query).points) == 50
    for request in (
        lambda: client.scroll(name, limit=51),
        lambda: client.query_points(name, limit=51, **query),
    ):
        status, said, _ = refused(request)
        assert status == 400
        assert 'Limit exceeded 51 > 50 for "limit"' in said


def test_batches_are_limited(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 20)
    limit(client, name, upsert_max_batchsize=10, search_max_batchsize=2)
    put(client, name, range(10))
    status, said, _ = refused(lambda: put(client, name, range(11)))
    assert (status, 'Limit exceeded 11 > 10 for "upsert limit"' in said) == (400, True)
    changed = [models.PointVectors(id=i, vector={"text": vector()}) for i in range(11)]
    status, said, _ = refused(lambda: client.update_vectors(name, changed))
    assert (status, 'for "update limit"' in said) == (400, True)
    requests = [models.QueryRequest(query=vector(), using="text", limit=3) for _ in range(3)]
    assert len(client.query_batch_points(name, requests[:2])) == 2
    status, said, _ = refused(lambda: client.query_batch_points(name, requests))
    assert (status, 'for "search batch size"' in said) == (400, True)


def test_exactness_can_be_forbidden(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 30)
    limit(client, name, search_allow_exact=False)
    assert client.count(name, exact=False).count == 30
    exact = models.SearchParams(exact=True)
    for request in (
        lambda: client.count(name, exact=True),
        lambda: client.query_points(name, query=vector(), using="text", search_params=exact),
    ):
        status, said, _ = refused(request)
        assert (status, "Exact search disabled!" in said) == (400, True)


def test_the_width_of_a_search_is_limited(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 30)
    limit(client, name, search_max_hnsw_ef=64)
    for ef in (64, 65):
        params = models.SearchParams(hnsw_ef=ef)

        def search(params: models.SearchParams = params) -> object:
            return client.query_points(name, query=vector(), using="text", search_params=params)

        if ef == 64:
            search()
            continue
        status, said, _ = refused(search)
        assert (status, 'Limit exceeded 65 > 64 for "hnsw_ef"' in said) == (400, True)


def test_filters_may_need_an_index(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 30)
    limit(client, name, unindexed_filtering_retrieve=False, unindexed_filtering_update=False)
    few = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(lt=5))])
    for request in (
        lambda: client.scroll(name, scroll_filter=few),
        lambda: client.count(name, count_filter=few),
        lambda: client.delete(name, models.FilterSelector(filter=few)),
    ):
        status, said, _ = refused(request)
        assert status == 400
        assert 'Index required but not found for "n"' in said
        assert "[float, integer]" in said
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER, wait=True)
    assert client.count(name, count_filter=few).count == 5
    of_ids = models.Filter(must=[models.HasIdCondition(has_id=[1, 2, 99])])
    assert client.count(name, count_filter=of_ids).count == 2
    client.delete(name, models.FilterSelector(filter=few), wait=True)
    assert client.count(name).count == 25


def test_timeouts_are_limited(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 3)
    limit(client, name, max_timeout=5)
    client.scroll(name, timeout=5)
    status, said, _ = refused(lambda: client.scroll(name, timeout=6))
    assert (status, 'Limit exceeded 6 > 5 for "timeout"' in said) == (400, True)


def test_reading_costs(place: Place, client: QdrantClient) -> None:
    """A page costs one, points by their ids one each; the sum is of a minute."""
    name = made(place, client, 30)
    limit(client, name, read_rate_limit=20)
    client.retrieve(name, list(range(10)))
    for _ in range(5):
        client.scroll(name, limit=30)
    client.count(name)
    client.query_points(name, query=vector(), using="text", limit=2)
    status, said, after = refused(lambda: client.retrieve(name, list(range(10))))
    assert status == 429
    assert "Read rate limit exceeded: Operation requires 10 tokens" in said
    assert after is not None
    assert 1 <= after <= 30
    status, said, after = refused(lambda: client.retrieve(name, list(range(21))))
    assert (status, "larger than rate limiter capacity" in said) == (429, True)


def test_writing_costs(place: Place, client: QdrantClient) -> None:
    """Each point costs one, new or changed or removed."""
    name = made(place, client, 30)
    limit(client, name, write_rate_limit=40)
    put(client, name, range(20))
    client.delete(name, models.PointIdsList(points=[1, 2, 3]), wait=True)
    client.set_payload(name, {"a": 1}, points=[4, 5, 6], wait=True)
    status, said, after = refused(lambda: put(client, name, range(20)))
    assert status == 429
    assert "Write rate limit exceeded: Operation requires 20 tokens" in said
    assert after is not None
    assert 1 <= after <= 30
    status, said, _ = refused(lambda: put(client, name, range(41)))
    assert (status, "larger than rate limiter capacity" in said) == (429, True)


def test_collections_may_not_grow(place: Place, client: QdrantClient) -> None:
    """How large a collection is, is looked at once in 32 requests."""
    name = made(place, client)
    limit(client, name, max_collection_vector_size_bytes=2 * 100 * SIZE * 4)

    def grow() -> None:
        for start in range(0, 1000, 10):
            put(client, name, range(start, start + 10))

    status, said, _ = refused(grow)
    assert (status, "Max vector storage size limit of" in said) == (400, True)
    assert 100 <= client.count(name).count <= 500
    client.delete(name, models.PointIdsList(points=[1, 2, 3]), wait=True)


def test_a_full_node_refuses_writes(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 10)
    if place.engine is not None:
        place.engine.disk_percent = 90
    # The client does not know this limit.
    url = SERVER if place.engine is None else place.base.replace("qdrant:", "http:")
    limits = {"enabled": True, "max_disk_usage_percent": 1}
    answer = httpx.patch(f"{url}/collections/{name}", json={"strict_mode_config": limits})
    assert answer.status_code == 200
    status, said, _ = refused(lambda: put(client, name, range(10)))
    assert status == 400
    assert "Disk usage is at" in said
    assert "exceeding the configured limit of 1%" in said
    client.delete(name, models.PointIdsList(points=[1]), wait=True)
    assert client.count(name).count == 9


def test_limits_that_are_off_are_none(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 60)
    limit(client, name, max_query_limit=50)
    limit(client, name, max_timeout=5)
    strict = client.get_collection(name).config.strict_mode_config
    assert strict is not None
    assert (strict.max_query_limit, strict.max_timeout) == (50, 5)
    off = models.StrictModeConfig(enabled=False)
    client.update_collection(name, strict_mode_config=off)
    assert len(client.scroll(name, limit=60)[0]) == 60


# Shard keys

KEYS = ("eu", "us", 7)


def of_tenants(place: Place, client: QdrantClient, count: int = 20) -> str:
    need_shard_keys(place)
    name = made(place, client, sharding_method=models.ShardingMethod.CUSTOM, shard_number=1)
    for key in KEYS:
        client.create_shard_key(name, key)
        put(client, name, range(count), shard_key_selector=key)
    return name


def test_ids_are_unique_within_a_shard_key(place: Place, client: QdrantClient) -> None:
    name = of_tenants(place, client)
    assert client.count(name).count == 60
    assert client.count(name, shard_key_selector="eu").count == 20
    assert client.count(name, shard_key_selector=["eu", 7]).count == 40
    for key in KEYS:
        records, following = client.scroll(name, limit=15, shard_key_selector=key)
        assert [record.id for record in records] == list(range(15))
        assert following == 15
        assert {record.shard_key for record in records} == {key}
        found = client.retrieve(name, [3, 4], shard_key_selector=key)
        assert [(record.id, record.shard_key) for record in found] == [(3, key), (4, key)]


def test_without_a_key_each_id_comes_once(place: Place, client: QdrantClient) -> None:
    name = of_tenants(place, client)
    records, following = client.scroll(name, limit=15)
    assert [record.id for record in records] == list(range(15))
    assert following == 15
    records, following = client.scroll(name, limit=15, offset=15)
    assert [record.id for record in records] == list(range(15, 20))
    assert following is None
    found = client.retrieve(name, [5, 3, 99])
    assert [record.id for record in found] == [5, 3]
    assert {record.shard_key for record in found} <= set(KEYS)


def test_a_search_without_a_key_finds_a_point_under_each(
    place: Place, client: QdrantClient
) -> None:
    name = of_tenants(place, client)
    points = client.query_points(name, query=vector(), using="text", limit=70).points
    assert sorted((str(point.shard_key), point.id) for point in points) == sorted(
        (str(key), i) for key in KEYS for i in range(20)
    )
    few = client.query_points(name, query=vector(), using="text", limit=5).points
    assert len(few) == 5


def test_changes_need_a_key(place: Place, client: QdrantClient) -> None:
    name = of_tenants(place, client)
    for request in (
        lambda: put(client, name, [1]),
        lambda: client.delete(name, models.PointIdsList(points=[1])),
        lambda: client.set_payload(name, {"a": 1}, points=[1]),
    ):
        status, said, _ = refused(request)
        assert (status, "Shard key not specified" in said) == (400, True)
    for request in (
        lambda: put(client, name, [1], shard_key_selector="none"),
        lambda: client.scroll(name, shard_key_selector="none"),
        lambda: client.count(name, shard_key_selector="none"),
    ):
        status, said, _ = refused(request)
        assert (status, "not found" in said) == (400, True)


def test_changes_stay_within_their_key(place: Place, client: QdrantClient) -> None:
    name = of_tenants(place, client)
    one = models.PointIdsList(points=[1])
    client.delete(name, one, shard_key_selector="eu", wait=True)
    client.set_payload(name, {"mark": 1}, points=[2], shard_key_selector="us", wait=True)
    assert client.count(name).count == 59
    assert client.retrieve(name, [1], shard_key_selector="eu") == []
    marked = [
        (client.retrieve(name, [2], shard_key_selector=key)[0].payload or {}).get("mark")
        for key in KEYS
    ]
    assert marked == [None, 1, None]
    client.delete_shard_key(name, "us")
    assert client.count(name).count == 39


def test_collections_without_shard_keys_refuse_them(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 5)
    status, said, _ = refused(lambda: put(client, name, [1], shard_key_selector="eu"))
    assert (status, "not found" in said) == (400, True)
    assert client.retrieve(name, [1])[0].shard_key is None


# Points


def test_a_point_can_lose_a_vector(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 10)
    client.delete_vectors(name, vectors=["text"], points=[5, 6], wait=True)
    found = client.retrieve(name, [4, 5], with_vectors=True)
    assert [set(record.vector or {}) for record in found] == [{"text", "title"}, {"title"}]
    assert client.count(name).count == 10


def test_points_that_are_not_there_get_no_vectors(place: Place, client: QdrantClient) -> None:
    name = made(place, client, 3)
    changed = [models.PointVectors(id=i, vector={"text": vector()}) for i in (1, 99)]
    status, said, _ = refused(lambda: client.update_vectors(name, changed, wait=True))
    assert (status, "No point with id 99 found" in said) == (404, True)


def test_ids_are_in_an_order(place: Place, client: QdrantClient) -> None:
    name = made(place, client)
    ids = [9, str(uuid.UUID(int=3)), 1, str(uuid.UUID(int=2))]
    client.upsert(
        name,
        [models.PointStruct(id=i, vector={"text": vector()}, payload={}) for i in ids],
        wait=True,
    )
    found, following = client.scroll(name, limit=3)
    assert [record.id for record in found] == [1, 9, str(uuid.UUID(int=2))]
    assert following == str(uuid.UUID(int=3))
    assert [r.id for r in client.retrieve(name, ids)] == ids


def test_vectors_are_as_they_are_stored(place: Place, client: QdrantClient) -> None:
    name = made(place, client)
    point = models.PointStruct(id=1, vector={"text": [3.0, 0.0, 4.0, 0.0]}, payload={})
    client.upsert(name, [point], wait=True)
    found: Any = client.retrieve(name, [1], with_vectors=True)[0].vector
    assert np.float32(found["text"]).tolist() == np.float32([0.6, 0.0, 0.8, 0.0]).tolist()


def test_what_is_not_there(place: Place, client: QdrantClient) -> None:
    name = place.name()
    for request in (lambda: client.scroll(name), lambda: client.get_collection(name)):
        status, said, _ = refused(request)
        assert (status, f"Collection `{name}` doesn't exist!" in said) == (404, True)
    made(place, client)
    there = place.made[-1]
    params = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    status, said, _ = refused(lambda: client.create_collection(there, vectors_config=params))
    assert (status, "already exists" in said) == (409, True)
