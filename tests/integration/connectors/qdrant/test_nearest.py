"""The nearest points of a collection, whole, through filters, wherever Qdrant runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.qdrant.places import (
    DIMENSION,
    PLACES,
    Place,
    need_shard_keys,
    open_place,
    params,
    vectors,
)

from vecmigrate import open_source
from vecmigrate.connector import (
    InputError,
    Metric,
    PointId,
    UsageError,
    VectorBatch,
    id_array,
)

COUNT = 40
IDS: list[PointId] = [
    n if n % 2 else f"5c56c793-69f3-4fbf-87e6-c4bf54c28c{n:02x}" for n in range(COUNT)
]
PAYLOADS: list[dict[str, Any]] = [
    {
        "n": n,
        "word": ("red", "green", "blue")[n % 3],
        "text": f"the text of point {n}",
        "at": f"2026-01-{1 + n % 28:02}T00:00:00Z",
        "place": {"lat": float(n), "lon": 10.0},
        "parts": [{"kind": "a", "size": n}, {"kind": "b", "size": -n}],
        **({"rare": None} if n % 5 == 0 else {}),
    }
    for n in range(COUNT)
]


def field(key: str, **condition: Any) -> dict[str, Any]:
    return {"must": [{"key": key, **condition}]}


FILTERS: dict[str, tuple[dict[str, Any], Callable[[int], bool]]] = {
    "nothing": ({}, lambda n: True),
    "empty lists": ({"must": [], "should": [], "must_not": []}, lambda n: True),
    "a word": (field("word", match={"value": "red"}), lambda n: n % 3 == 0),
    "a number": (field("n", match={"value": 7}), lambda n: n == 7),
    "any of": (field("word", match={"any": ["red", "blue"]}), lambda n: n % 3 != 1),
    "none of": (field("word", match={"except": ["red"]}), lambda n: n % 3 != 0),
    "a range": (field("n", range={"gte": 5, "lt": 9}), lambda n: 5 <= n < 9),
    "times": (
        field("at", range={"gt": "2026-01-20T00:00:00Z"}),
        lambda n: n % 28 > 19,
    ),
    "one condition, no list": (
        {"must": {"key": "word", "match": {"value": "red"}}},
        lambda n: n % 3 == 0,
    ),
    "ids": ({"must": [{"has_id": [IDS[2], IDS[3], 10**9]}]}, lambda n: n in (2, 3)),
    "empty": ({"must": [{"is_empty": {"key": "absent"}}]}, lambda n: True),
    "null": ({"must": [{"is_null": {"key": "rare"}}]}, lambda n: n % 5 == 0),
    "not": ({"must_not": [{"key": "n", "range": {"gt": 3}}]}, lambda n: n <= 3),
    "either": (
        {"should": [field("n", match={"value": 1}), field("n", match={"value": 4})]},
        lambda n: n in (1, 4),
    ),
    "two of three": (
        {
            "min_should": {
                "min_count": 2,
                "conditions": [
                    {"key": "n", "range": {"lt": 10}},
                    {"key": "n", "range": {"gt": 7}},
                    {"key": "word", "match": {"value": "red"}},
                ],
            }
        },
        lambda n: (n < 10) + (n > 7) + (n % 3 == 0) >= 2,
    ),
    "nested": (
        {
            "must": [
                {
                    "nested": {
                        "key": "parts",
                        "filter": {
                            "must": [
                                {"key": "kind", "match": {"value": "b"}},
                                {"key": "size", "range": {"lt": -30}},
                            ]
                        },
                    }
                }
            ]
        },
        lambda n: n > 30,
    ),
    "a circle": (
        field("place", geo_radius={"center": {"lat": 20.0, "lon": 10.0}, "radius": 250_000.0}),
        lambda n: abs(n - 20) <= 2,
    ),
    "a box": (
        field(
            "place",
            geo_bounding_box={
                "top_left": {"lat": 12.5, "lon": 9.0},
                "bottom_right": {"lat": 9.5, "lon": 11.0},
            },
        ),
        lambda n: 10 <= n <= 12,
    ),
    "a polygon": (
        field(
            "place",
            geo_polygon={
                "exterior": {
                    "points": [
                        {"lat": lat, "lon": lon}
                        for lat, lon in ((4.5, 9), (4.5, 11), (8.5, 11), (8.5, 9), (4.5, 9))
                    ]
                }
            },
        ),
        lambda n: 5 <= n <= 8,
    ),
    "how many values": (field("parts", values_count={"gte": 2}), lambda n: True),
}
WRONG = [
    "",
    "no JSON",
    "[]",
    '"n"',
    "null",
    '{"key": "n", "match": {"value": 3}}',
    '{"must": [{"key": "n", "match": {"value": 1.5}}]}',
    '{"must": [{"key": "n", "range": {"gt": "three"}}]}',
    '{"must": [{"has_id": [1.5]}]}',
    '{"must_not": [{"must": [{"slice": {"total": 3, "index": 0}}]}]}',
]
REFUSED = [
    json.dumps(field("n", match={"value": 2**70})),
    json.dumps({"must": [{"has_id": [-1]}]}),
    json.dumps({"must": [{"has_id": ["no UUID"]}]}),
    json.dumps(field("place", geo_polygon={"exterior": {"points": []}})),
]
"""Filters by their form, which no Qdrant can carry out."""


@pytest.fixture(params=["qdrant-edge", *PLACES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "qdrant-edge":
        yield Place("embedded", f"qdrant-edge:{tmp_path}", "", lambda: pytest.fail("no client"))
        return
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def served(place: Place) -> Place:
    if place.kind == "embedded":
        pytest.skip("it has no settings of a server")
    return place


def write(place: Place, **spec: Any) -> str:
    name = place.name()
    place.write(name, VectorBatch(id_array(IDS), vectors(COUNT), PAYLOADS), **spec)
    return name


def best(query: Any, passing: Callable[[int], bool] = lambda n: True) -> list[PointId]:
    order = np.argsort(-(vectors(COUNT) @ query)).tolist()
    return [IDS[n] for n in order if passing(n)]


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.COSINE, Metric.EUCLID])
def test_points_come_whole_and_best_first(place: Place, metric: Metric) -> None:
    uri = place.uri(write(place, metric=metric))
    queries = vectors(70, seed=1)
    with open_source(uri) as source:
        found, searched = source.nearest(queries, 5), source.search(queries, 5)
        assert found is not None
        assert searched is not None
        for points, ids in zip(found, searched, strict=True):
            assert points.ids.tolist() == ids.tolist()
            fetched = source.fetch(ids)
            np.testing.assert_array_equal(points.vectors, fetched.vectors)
            told = [dict(payload) for payload in points.each_payload()]
            assert told == [dict(payload) for payload in fetched.each_payload()]
            assert told == [PAYLOADS[IDS.index(i)] for i in ids.tolist()]
        if metric is Metric.DOT:
            assert [ids.tolist() for ids in searched] == [best(query)[:5] for query in queries]


def test_the_vector_is_the_one_that_the_uri_names(served: Place) -> None:
    name = served.name()
    dense = {"a": params(), "b": params(4)}
    sparse = {"words": models.SparseVectorParams()}
    given, other = vectors(COUNT), vectors(COUNT, seed=3, dimension=4)
    with served.client() as client:
        client.create_collection(name, dense, sparse_vectors_config=sparse)
        points = [
            models.PointStruct(
                id=n,
                vector={
                    **({"a": given[n].tolist()} if n % 4 else {}),
                    "b": other[n].tolist(),
                    "words": models.SparseVector(indices=[n], values=[1.0]),
                },
                payload={"n": n},
            )
            for n in range(COUNT)
        ]
        client.upsert(name, points, wait=True)
    for vector, expected in (("a", given), ("b", other)):
        with open_source(served.uri(name, f"vector={vector}")) as source:
            [found] = source.nearest(expected[5:6], COUNT) or []
        there = [n for n in range(COUNT) if n % 4 or vector == "b"]
        assert sorted(found.ids.tolist()) == there
        np.testing.assert_array_equal(found.vectors, expected[found.ids])
        assert (found.counts, found.extras) == (None, None)


@pytest.mark.parametrize("named", FILTERS)
def test_only_points_that_pass_are_found(place: Place, named: str) -> None:
    where, passing = FILTERS[named]
    query = vectors(1, seed=1)
    with open_source(place.uri(write(place))) as source:
        [found] = source.nearest(query, COUNT, where=json.dumps(where)) or []
    assert found.ids.tolist() == best(query[0], passing)


def test_a_filter_that_is_none_is_the_user_s_mistake(place: Place) -> None:
    queries = vectors(2, seed=1)
    with open_source(place.uri(write(place))) as source:
        for where in WRONG:
            with pytest.raises(UsageError):
                source.nearest(queries, 3, where=where)
        for where in REFUSED:
            # Embedded storage compares with anything.
            try:
                found = source.nearest(queries, 3, where=where)
            except UsageError:
                continue
            assert found is not None
            assert [len(points) for points in found] == [0, 0]
        assert source.nearest(queries, 3) is not None


def test_what_a_server_refuses_for_the_filter_is_told_from_what_else_it_refuses(
    served: Place,
) -> None:
    name, queries = write(served), vectors(2, seed=1)
    where = json.dumps(field("n", match={"value": 3}))
    strict = models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False)
    with served.client() as client, open_source(served.uri(name)) as source:
        client.update_collection(name, strict_mode_config=strict)
        with pytest.raises(UsageError, match="Index required"):
            source.nearest(queries, 3, where=where)
        client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER, wait=True)
        [found, _] = source.nearest(queries, 3, where=where) or []
        assert found.ids.tolist() == [3]
        with pytest.raises(InputError):
            source.nearest(vectors(2, dimension=DIMENSION + 1), 3, where=where)
        client.delete_collection(name)
        for filtered in (None, where):
            with pytest.raises(InputError):
                source.nearest(queries, 3, where=filtered)


def test_requests_keep_to_the_limits_of_the_collection(served: Place) -> None:
    name, queries = write(served), vectors(20, seed=1)
    where = json.dumps(field("n", range={"lt": 30}))
    strict = models.StrictModeConfig(
        enabled=True, max_query_limit=7, search_max_batchsize=6, read_rate_limit=1000
    )
    with served.client() as client:
        client.update_collection(name, strict_mode_config=strict)
    with open_source(served.uri(name)) as source:
        found = source.nearest(queries, 10, where=where)
        assert found is not None
        assert [points.ids.tolist() for points in found] == [
            best(query, lambda n: n < 30)[:7] for query in queries
        ]


def test_a_group_of_queries_is_one_request(tmp_path: Path) -> None:
    for kind in ("rest", "grpc"):
        with open_place(kind, tmp_path) as place:
            uri = place.uri(write(place))
            assert place.engine is not None
            with open_source(uri) as source:
                place.engine.heard.clear()
                found = source.nearest(vectors(20, seed=1), 10)
                assert len(found or ()) == 20
                assert len(place.engine.heard) == 1


def test_the_ids_tell_their_shard_keys(served: Place) -> None:
    need_shard_keys(served)
    name, given = served.name(), vectors(12)
    with served.client() as client:
        client.create_collection(
            name, params(), sharding_method=models.ShardingMethod.CUSTOM, shard_number=1
        )
        for at, key in enumerate(("eu", 7)):
            client.create_shard_key(name, key)
            rows = [
                models.PointStruct(
                    id=n, vector=given[6 * at + n].tolist(), payload={"n": n, "key": key}
                )
                for n in range(6)
            ]
            client.upsert(name, rows, wait=True, shard_key_selector=key)
    spelled = [f"{key}/{n}" for key in ("eu", 7) for n in range(6)]
    query = vectors(1, seed=1)
    order = np.argsort(-(given @ query[0])).tolist()
    with open_source(served.uri(name)) as source:
        for where, passing in ((None, range(6)), (field("n", range={"lt": 2}), range(2))):
            [found] = source.nearest(query, 12, where=where and json.dumps(where)) or []
            assert found.ids.tolist() == [spelled[n] for n in order if n % 6 in passing]
            fetched = source.fetch(found.ids)
            np.testing.assert_array_equal(found.vectors, fetched.vectors)
            assert [p["key"] for p in found.each_payload()] == [
                p["key"] for p in fetched.each_payload()
            ]


def test_an_alias_that_is_switched_is_followed(served: Place) -> None:
    one, alias, query = write(served), served.name("alias"), vectors(1, seed=1)
    another = served.name()
    served.write(another, VectorBatch(id_array([1000]), vectors(1), [{}]))

    def lead(client: Any, target: str) -> None:
        operation = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=target, alias_name=alias)
        )
        client.update_collection_aliases([operation])

    with served.client() as client:
        lead(client, one)
        with open_source(served.uri(alias)) as source:
            [found] = source.nearest(query, 3) or []
            assert found.ids.tolist() == best(query[0])[:3]
            lead(client, another)
            [found] = source.nearest(query, 3) or []
            assert found.ids.tolist() == [1000]


def test_several_threads_ask_at_once(place: Place) -> None:
    queries = vectors(30, seed=1)
    with open_source(place.uri(write(place))) as source:

        def ask(row: int) -> list[PointId]:
            [found] = source.nearest(queries[row : row + 1], 4) or []
            fetched = source.fetch(found.ids)
            np.testing.assert_array_equal(fetched.vectors, found.vectors)
            ids: list[PointId] = found.ids.tolist()
            return ids

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, list(range(30)) * 4))
    assert found == [best(query)[:4] for query in queries] * 4
