"""What the connector sends, against the definitions that Qdrant publishes with its client.

Embedded mode ignores shard numbers, strict mode, quantisation, shard keys and optimisers. Here they
are looked at where they matter: in the requests, REST and gRPC, as a server gets them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import grpc as q
from qdrant_client import models
from support.qdrant.cases import Case, dense, params, sparse, tokens
from support.qdrant.migrating import Reversal, make
from support.qdrant.places import Place, open_place, points
from vecmigrate_qdrant import connector

from vecmigrate import migrate, open_source, open_updater
from vecmigrate.connector import Provenance, id_array, parse_uri

ALL = Case(
    "everything at once",
    "",
    {
        "vectors_config": {
            "text": params(
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(m=24),
                quantization_config=models.BinaryQuantization(
                    binary=models.BinaryQuantizationConfig(always_ram=True)
                ),
            ),
            "image": params(5, datatype=models.Datatype.UINT8),
            "tokens": params(
                4,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        "sparse_vectors_config": {"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        "shard_number": 2,
        "sharding_method": models.ShardingMethod.CUSTOM,
        "replication_factor": 3,
        "write_consistency_factor": 2,
        "on_disk_payload": True,
        "hnsw_config": models.HnswConfigDiff(ef_construct=77),
        "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=12345),
        "wal_config": models.WalConfigDiff(wal_capacity_mb=16),
        "quantization_config": models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.5)
        ),
        "metadata": {"owner": "search"},
    },
    lambda row: {
        **({"text": dense(row)} if row % 3 else {}),
        "image": [float(row % 200)] * 5,
        "tokens": tokens(row, 4),
        "bm25": sparse(row),
    },
    option="vector=text",
    shard_keys=("europe", 7),
    indexes={
        "text": models.TextIndexParams(
            type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.PREFIX, min_token_len=3
        ),
        "n": models.IntegerIndexParams(
            type=models.IntegerIndexType.INTEGER, lookup=False, range=True
        ),
    },
    change={
        "strict_mode_config": models.StrictModeConfig(enabled=True, max_query_limit=25),
        "collection_params": models.CollectionParamsDiff(read_fan_out_factor=1),
    },
)

# What each REST request has to be, by Qdrant's own definitions; None for one without a body.
NAME = r"/collections/[^/]+"
REST: dict[str, Any] = {
    rf"PUT {NAME}": models.CreateCollection,
    rf"PATCH {NAME}": models.UpdateCollection,
    rf"DELETE {NAME}": None,
    rf"GET {NAME}": None,
    rf"GET {NAME}/exists": None,
    rf"GET {NAME}/cluster": None,
    r"GET /aliases": None,
    r"POST /collections/aliases": models.ChangeAliasesOperation,
    rf"PUT {NAME}/index": models.CreateFieldIndex,
    rf"PUT {NAME}/shards": models.CreateShardingKey,
    rf"PUT {NAME}/points": models.PointInsertOperations,
    rf"POST {NAME}/points": models.PointRequest,
    rf"POST {NAME}/points/scroll": models.ScrollRequest,
    rf"POST {NAME}/points/count": models.CountRequest,
    rf"POST {NAME}/points/delete": models.PointsSelector,
    rf"POST {NAME}/points/query/batch": models.QueryRequestBatch,
}
GRPC = {
    "gRPC Create": q.CreateCollection,
    "gRPC Update": q.UpdateCollection,
    "gRPC Get": (q.GetCollectionInfoRequest, q.GetPoints),
    "gRPC CollectionExists": q.CollectionExistsRequest,
    "gRPC CollectionClusterInfo": q.CollectionClusterInfoRequest,
    "gRPC ListAliases": q.ListAliasesRequest,
    "gRPC UpdateAliases": q.ChangeAliases,
    "gRPC CreateFieldIndex": q.CreateFieldIndexCollection,
    "gRPC CreateShardKey": q.CreateShardKeyRequest,
    "gRPC Upsert": q.UpsertPoints,
    "gRPC Scroll": q.ScrollPoints,
    "gRPC Count": q.CountPoints,
    "gRPC Delete": (q.DeletePoints, q.DeleteCollection),
    "gRPC QueryBatch": q.QueryBatchPoints,
}
PROVENANCE = Provenance(vecmigrate_version="0", source="faiss:old", created_at="2026-01-01")
Heard = list[tuple[str, Any]]


@pytest.fixture(params=["rest", "grpc"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def listen(place: Place, work: Callable[[], object]) -> Heard:
    """What the connector sends while it works."""
    assert place.engine is not None
    place.engine.heard.clear()
    work()
    return list(place.engine.heard)


def use_everything(place: Place, old: str, new: str) -> None:
    """Read, migrate, change, lead readers over and drop: each kind of request there is."""
    source, target = place.uri(old, ALL.option), place.uri(new)
    migrate(source, target, Reversal())
    with open_source(target) as opened:
        found = opened.fetch([f"{ALL.shard_key_of(row)}/{row}" for row in (1, 7)])
        opened.search(found.vectors, 3)
        opened.nearest(found.vectors, 3, where='{"must": [{"key": "n", "range": {"gte": 1}}]}')
        provenance = opened.describe().provenance
        list(opened.ids(10))
    assert provenance is not None
    with open_updater(target, provenance) as updater:
        updater.upsert(found)
        updater.delete(id_array([f"{ALL.shard_key_of(5)}/5"]))
        updater.finish()
    switcher = connector.switcher()
    switcher.switch(parse_uri(place.uri(f"live-{new}")), parse_uri(target))
    switcher.drop(parse_uri(source))


def check_message(message: Message, where: str) -> None:
    """Assert that a message holds nothing that its definition does not know."""
    assert len(UnknownFieldSet(message)) == 0, where
    for field, value in message.ListFields():
        path = f"{where}.{field.name}"
        if field.type == FieldDescriptor.TYPE_ENUM:
            for number in value if field.is_repeated else [value]:
                assert number in field.enum_type.values_by_number, path
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
                for key in value:
                    check_message(value[key], f"{path}[{key}]")
            continue
        for each in value if field.is_repeated else [value]:
            check_message(each, path)


def test_each_request_is_as_qdrant_defines_it(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    make(place, ALL, old, 60)
    heard = listen(place, lambda: use_everything(place, old, new))
    kinds = set()
    for what, body in heard:
        if place.kind == "grpc":
            assert isinstance(body, GRPC[what])
            again = type(body).FromString(body.SerializeToString())
            check_message(again, what)
            kinds.add(what)
            continue
        [(pattern, kind)] = [(p, k) for p, k in REST.items() if re.fullmatch(p, what)]
        kinds.add(pattern)
        if kind is None:
            assert body == {}
        else:
            TypeAdapter(kind).validate_json(TypeAdapter(Any).dump_json(body))
    assert kinds == set(GRPC if place.kind == "grpc" else REST)


def test_the_definitions_refuse_what_they_do_not_know() -> None:
    """Lest the test above take anything."""
    for kind in REST.values():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            with pytest.raises(ValidationError):
                kind.model_validate({"collection_name": "x", "surprise": 1})
    with pytest.raises(ValidationError):
        TypeAdapter(models.PointInsertOperations).validate_python({"points": [], "surprise": 1})
    strange = q.UpsertPoints.FromString(b"\xfa\x3e\x01x")
    with pytest.raises(AssertionError):
        check_message(strange, "a field of a newer version")
    wrong = q.VectorParams(size=1)
    wrong.MergeFromString(b"\x10\x63")
    with pytest.raises(AssertionError):
        check_message(wrong, "a distance that is none")


def of_kind(heard: Heard, rest: str, grpc: str) -> list[Any]:
    """The requests of one kind, each as plain JSON."""
    return [
        body if isinstance(body, dict) else MessageToDict(body, preserving_proto_field_name=True)
        for what, body in heard
        if re.fullmatch(rest, what) or what == grpc
    ]


def test_what_embedded_mode_ignores_is_in_the_requests(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    make(place, ALL, old, 60)
    heard = listen(place, lambda: migrate(place.uri(old, ALL.option), place.uri(new), Reversal()))
    grpc = place.kind == "grpc"

    [created] = of_kind(heard, rf"PUT {NAME}", "gRPC Create")
    for name, value in {
        "shard_number": 2,
        "replication_factor": 3,
        "write_consistency_factor": 2,
        "on_disk_payload": True,
        "sharding_method": "Custom" if grpc else "custom",
    }.items():
        assert created[name] == value
    assert int(created["hnsw_config"]["ef_construct"]) == 77
    assert int(created["optimizers_config"]["indexing_threshold"]) == 12345
    assert int(created["wal_config"]["wal_capacity_mb"]) == 16
    assert created["quantization_config"]["scalar"]["quantile"] == 0.5
    vectors = created["vectors_config"]["params_map"]["map"] if grpc else created["vectors"]
    assert set(vectors) == {"text", "image", "tokens"}
    assert int(vectors["text"]["hnsw_config"]["m"]) == 24
    assert vectors["text"]["quantization_config"]["binary"]["always_ram"] is True
    assert vectors["text"]["on_disk"] is True
    assert vectors["image"]["datatype"].lower() == "uint8"
    assert "multivector_config" in vectors["tokens"]
    told = created["sparse_vectors_config"]["map"] if grpc else created["sparse_vectors"]
    assert told["bm25"]["modifier"].lower() == "idf"
    assert "strict_mode_config" not in created or not created["strict_mode_config"]

    keys = [
        r.get("request", r) for r in of_kind(heard, rf"PUT {NAME}/shards", "gRPC CreateShardKey")
    ]
    made = [r["shard_key"] for r in keys]
    assert made == ([{"number": "7"}, {"keyword": "europe"}] if grpc else [7, "europe"])
    assert [int(r["shards_number"]) for r in keys] == [2, 2]

    indexes = {
        r["field_name"]: r.get("field_index_params") or r["field_schema"]
        for r in of_kind(heard, rf"PUT {NAME}/index", "gRPC CreateFieldIndex")
    }
    assert set(indexes) == {"text", "n"}
    text = indexes["text"]["text_index_params"] if grpc else indexes["text"]
    assert (text["tokenizer"].lower(), int(text["min_token_len"])) == ("prefix", 3)

    updates = of_kind(heard, rf"PATCH {NAME}", "gRPC Update")
    assert int(updates[0]["params"]["read_fan_out_factor"]) == 1
    last = updates[-1]["strict_mode_config"]
    assert (last["enabled"], int(last["max_query_limit"])) == (True, 25)
    # Its limits must not meet the load itself, and it goes with the mark of a whole collection.
    assert all(not update.get("strict_mode_config") for update in updates[:-1])
    assert "complete" in str(updates[-1]["metadata"])

    writes = of_kind(heard, rf"PUT {NAME}/points", "gRPC Upsert")
    by_key: dict[str, int] = {}
    for write in writes:
        [key] = write["shard_key_selector"]["shard_keys"] if grpc else [write["shard_key"]]
        name = str(next(iter(key.values())) if grpc else key)
        by_key[name] = by_key.get(name, 0) + len(write["points"])
        for point in write["points"]:
            row = _row(point, grpc=grpc)
            assert str(ALL.shard_key_of(row)) == name
    assert by_key == {"europe": 30, "7": 30}


def test_an_update_heeds_the_strict_mode_s_limit(place: Place) -> None:
    name = place.name()
    place.write(name, points(list(range(20))))
    limits = models.StrictModeConfig(enabled=True, upsert_max_batchsize=3)
    with place.client() as client:
        client.update_collection(name, strict_mode_config=limits)

    def update() -> None:
        with open_source(place.uri(name)) as source:
            provenance = source.describe().provenance or PROVENANCE
        with open_updater(place.uri(name), provenance) as updater:
            updater.upsert(points(list(range(10, 30))))
            updater.finish()

    writes = of_kind(listen(place, update), rf"PUT {NAME}/points", "gRPC Upsert")
    sizes = [len(write.get("points") or write["batch"]["ids"]) for write in writes]
    assert (sum(sizes), max(sizes)) == (20, 3)


def _row(point: dict[str, Any], *, grpc: bool) -> int:
    """Tell which row of the case a point is, by its id: a number, or a UUID of the row after."""
    found = point["id"]
    if grpc:
        found = int(found["num"]) if "num" in found else found["uuid"]
    return found if isinstance(found, int) else int(found.replace("-", ""), 16) - 1
