"""Writing Qdrant collections: ids, payloads, settings, and what is never touched."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models
from support.qdrant.places import DIMENSION, PLACES, Place, open_place, params, points, vectors
from vecmigrate_qdrant.marks import LEASE_KEY

from vecmigrate import open_sink, open_source
from vecmigrate.connector import (
    CollectionDescription,
    EncoderIdentity,
    Metric,
    MismatchError,
    PointId,
    Provenance,
    TargetExistsError,
    TargetSpec,
    VectorBatch,
    WriteError,
    id_array,
)
from vecmigrate.points.canonical import same_within

SPEC = TargetSpec(dimension=DIMENSION, metric=Metric.DOT)
PROVENANCE = Provenance(
    vecmigrate_version="0",
    source="faiss:old",
    encoder=EncoderIdentity(name="new", dimension=DIMENSION, normalized=True),
    translator_sha256="ab",
    created_at="2026-01-01T00:00:00+00:00",
)
WRITING = {"vecmigrate": {"state": "writing", "run": "another"}}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.lists(st.dictionaries(st.text(min_size=1), JSON, max_size=5), min_size=1, max_size=8)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def fetched(place: Place, name: str, ids: list[PointId]) -> VectorBatch:
    with open_source(place.uri(name)) as source:
        return source.fetch(ids)


def described(place: Place, name: str, options: str = "") -> CollectionDescription:
    with open_source(place.uri(name, options)) as source:
        return source.describe()


def info(place: Place, name: str) -> models.CollectionInfo:
    with place.client() as client:
        return client.get_collection(name)


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(payloads=PAYLOADS)
def test_payloads_are_untouched(place: Place, payloads: list[dict[str, Any]]) -> None:
    name = place.name()
    ids: list[PointId] = list(range(len(payloads)))
    place.write(name, VectorBatch(id_array(ids), vectors(len(ids)), payloads))
    found = fetched(place, name, ids).payloads
    assert found is not None
    with open_source(place.uri(name)) as source:
        ulps = source.payload_ulps()
    assert (ulps == 0) == (place.kind == "embedded")
    assert same_within(list(map(dict, found)), payloads, ulps)


def test_integers_beyond_64_bits_signed_need_rest(place: Place) -> None:
    name = place.name()
    batch = VectorBatch(id_array([1]), vectors(1), [{"big": 2**64 - 1, "nested": [2**63]}])
    if place.kind == "grpc":
        with (
            open_sink(place.uri(name), SPEC) as sink,
            pytest.raises(WriteError, match="grpc=false"),
        ):
            sink.write(batch)
    elif place.kind == "server":
        pytest.skip("whether the server at hand offers gRPC is not known")
    else:
        place.write(name, batch)
        assert fetched(place, name, [1]).payloads == batch.payloads


@pytest.mark.parametrize("bad", ["a name", "12", "", -1, 2**64, f"{uuid.UUID(int=5)}x"])
def test_an_id_that_qdrant_cannot_hold_is_named(place: Place, bad: PointId) -> None:
    name = place.name()
    with open_sink(place.uri(name), SPEC) as sink, pytest.raises(MismatchError) as raised:
        sink.write(points([7, bad, str(uuid.UUID(int=1))]))
    assert repr(bad) in str(raised.value)
    assert name in str(raised.value)


def test_ids_of_both_kinds_and_any_spelling_are_kept_as_qdrant_spells_them(place: Place) -> None:
    name, one = place.name(), uuid.UUID(int=77, version=4)
    place.write(name, points([2**64 - 1, one.hex.upper(), 0]))
    with open_source(place.uri(name)) as source:
        found = [i for ids in source.ids(2) for i in ids.tolist()]
    assert found == [0, 2**64 - 1, str(one)]


def test_an_empty_batch_is_written(place: Place) -> None:
    empty = VectorBatch(id_array([]), np.empty((0, DIMENSION), np.float32), [])
    assert place.write(place.name(), empty, points([1])).count == 1


def test_all_settings_of_a_collection_are_kept(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    stored = params(
        hnsw_config=models.HnswConfigDiff(m=24),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.75)
        ),
        on_disk=True,
        datatype=models.Datatype.FLOAT16,
    )
    with place.client() as client:
        client.create_collection(
            old,
            {"text": stored},
            hnsw_config=models.HnswConfigDiff(ef_construct=77, full_scan_threshold=500),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=12345),
            wal_config=models.WalConfigDiff(wal_capacity_mb=16),
            on_disk_payload=False,
            metadata={"owner": {"team": "search"}, "vecmigrate": {"state": "complete"}},
        )
        if place.kind != "embedded":
            client.create_payload_index(old, "lang", models.PayloadSchemaType.KEYWORD)
            client.create_payload_index(
                old,
                "year",
                models.IntegerIndexParams(
                    type=models.IntegerIndexType.INTEGER, lookup=True, range=True
                ),
            )
            client.update_collection(
                old, strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=50)
            )
    source = described(place, old)
    spec = TargetSpec.like(source, dimension=DIMENSION + 1, provenance=PROVENANCE)
    with open_sink(place.uri(new), spec) as sink:
        sink.write(points([1, 2], dimension=DIMENSION + 1))
        target = sink.finish()
    before, after = info(place, old), info(place, new)
    assert target.settings == source.settings
    assert target.index_type == source.index_type
    assert after.config.params.vectors == {
        "text": stored.model_copy(update={"size": DIMENSION + 1})
    }
    for part in ("hnsw_config", "optimizer_config", "wal_config", "strict_mode_config"):
        assert getattr(after.config, part) == getattr(before.config, part)
    before_indexes = {name: (i.data_type, i.params) for name, i in before.payload_schema.items()}
    after_indexes = {name: (i.data_type, i.params) for name, i in after.payload_schema.items()}
    assert after_indexes == before_indexes
    assert after.config.metadata is not None
    assert after.config.metadata["owner"] == {"team": "search"}
    assert after.config.metadata["vecmigrate"]["state"] == "complete"
    assert (target.provenance, described(place, new).provenance) == (PROVENANCE, PROVENANCE)
    if place.kind != "embedded":
        assert target.index_type == "HNSW(m=24, ef_construct=77), scalar quantization"
        assert set(after.payload_schema) == {"lang", "year"}
        assert source.settings["on_disk_payload"] is False


def test_strict_limits_of_the_source_are_respected(place: Place) -> None:
    if place.kind == "embedded":
        pytest.skip("embedded Qdrant has no strict mode")
    name = place.name()
    place.write(name, points(list(range(9))))
    with place.client() as client:
        client.update_collection(
            name, strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=4)
        )
    with open_source(place.uri(name)) as source:
        assert [len(b) for b in source.batches(100)] == [4, 4, 1]
        assert len(source.fetch(list(range(9)))) == 9


def test_whole_numbers_as_bytes_become_float32_with_a_note(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    with place.client() as client:
        client.create_collection(old, params(datatype=models.Datatype.UINT8))
    with open_sink(place.uri(new), TargetSpec.like(described(place, old))) as sink:
        sink.write(points([1]))
        assert any("uint8" in note for note in sink.finish().notes)
    created = info(place, new).config.params.vectors
    assert isinstance(created, models.VectorParams)
    assert created.datatype in (None, models.Datatype.FLOAT32)
    np.testing.assert_array_equal(fetched(place, new, [1]).vectors, points([1]).vectors)


def test_settings_of_another_store_do_not_count(place: Place) -> None:
    name = place.name()
    spec = TargetSpec(
        dimension=DIMENSION, metric=Metric.EUCLID, store="faiss", settings={"vector": "x", "m": 3}
    )
    with open_sink(place.uri(name), spec) as sink:
        sink.write(points([1]))
        assert sink.finish().settings["vector"] == ""


def test_settings_that_are_none_are_refused_before_anything_is_made(place: Place) -> None:
    name = place.name()
    for broken in ({"vector_params": {"nonsense": 1}}, {"payload_schema": {"f": 3}}):
        spec = SPEC.model_copy(update={"store": "qdrant", "settings": broken})
        with pytest.raises(MismatchError, match="settings"):
            open_sink(place.uri(name), spec)
    if place.kind != "embedded":
        assert not place.exists(name)


def test_the_target_uri_may_name_the_vector(place: Place) -> None:
    name = place.name()
    with open_sink(place.uri(name, "vector=new"), SPEC) as sink:
        sink.write(points([1]))
        sink.finish()
    np.testing.assert_array_equal(fetched(place, name, [1]).vectors, points([1]).vectors)
    assert described(place, name).settings["vector"] == "new"


def test_until_it_is_finished_a_collection_is_marked_as_unfinished(place: Place) -> None:
    name = place.name()
    with open_sink(place.uri(name), SPEC) as sink:
        sink.write(points([1]))
        assert any(n.startswith("unfinished") for n in described(place, name).notes)
        finished = sink.finish()
        assert sink.finish() is finished
    assert (described(place, name).notes, finished.count) == ((), 1)


def test_leaving_early_removes_what_was_written_and_nothing_else(place: Place) -> None:
    kept, given_up = place.name("kept"), place.name("given-up")
    place.write(kept, points([1]))
    with open_sink(place.uri(given_up), SPEC) as sink:
        sink.write(points([2]))
    sink.abort()
    assert not place.exists(given_up)
    assert fetched(place, kept, [1]).ids.tolist() == [1]


def test_abort_after_finish_does_nothing(place: Place) -> None:
    name = place.name()
    with open_sink(place.uri(name), SPEC) as sink:
        sink.write(points([1]))
        sink.finish()
    sink.abort()
    assert place.exists(name)


def test_a_sink_never_removes_a_collection_that_replaced_its_own(
    place: Place, tmp_path: Path
) -> None:
    name = place.name()
    slow = open_sink(place.uri(name), SPEC)
    # Nobody else may replace it while its lease lasts.
    if place.kind == "embedded":
        [lease] = tmp_path.rglob("*.vecmigrate-lease")
        lease.unlink()
    else:
        with place.client() as client:
            client.update_collection(name, metadata={LEASE_KEY: None})
    with open_sink(place.uri(name), SPEC, restart=True) as quick:
        quick.write(points([5]))
        quick.finish()
    slow.abort()
    assert fetched(place, name, [5]).ids.tolist() == [5]


def test_what_is_not_vecmigrates_unfinished_work_is_never_touched(place: Place) -> None:
    foreign, aliased = place.name("foreign"), place.name("aliased")
    alias = f"alias-{aliased}"
    with place.client() as client:
        client.create_collection(foreign, params(3), metadata={"owner": "a team"})
        client.create_collection(aliased, params(3), metadata=WRITING)
        operation = models.CreateAlias(collection_name=aliased, alias_name=alias)
        if place.kind in ("embedded", "server"):
            client.update_collection_aliases([models.CreateAliasOperation(create_alias=operation)])
    names = [foreign, alias] if place.kind in ("embedded", "server") else [foreign]
    for restart in (False, True):
        for name in names:
            with pytest.raises(TargetExistsError, match=name):
                open_sink(place.uri(name), SPEC, restart=restart)
    assert info(place, foreign).config.params.vectors == params(3)
    assert place.exists(aliased)


def test_unfinished_work_is_replaced_only_where_that_is_asked_for(place: Place) -> None:
    name = place.name()
    with place.client() as client:
        client.create_collection(name, params(3), metadata=WRITING)
    with pytest.raises(TargetExistsError, match=r"unfinished.*--restart"):
        open_sink(place.uri(name), SPEC)
    assert info(place, name).config.params.vectors == params(3)
    with open_sink(place.uri(name), SPEC, restart=True) as sink:
        sink.write(points([1]))
        assert (sink.finish().dimension, described(place, name).notes) == (DIMENSION, ())


def test_a_collection_is_written_beside_the_one_it_is_read_from(place: Place) -> None:
    old, new = place.name("old"), place.name("new")
    written = points(list(range(300)))
    place.write(old, written)
    with open_source(place.uri(old)) as source, open_sink(place.uri(new), SPEC) as sink:
        failures: list[BaseException] = []

        def copy(start: str | None, stop: int) -> None:
            try:
                for batch in source.batches(10, cursor=start):
                    if batch.ids[0] >= stop:
                        return
                    sink.write(batch)
            except BaseException as error:
                failures.append(error)

        # One more reads and writes at once, as the migration's threads do.
        threads = [
            threading.Thread(target=copy, args=(None, 150)),
            threading.Thread(target=copy, args=("150", 300)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sink.finish().count == 300
        assert source.describe().count == 300
    found = fetched(place, new, list(range(300)))
    np.testing.assert_array_equal(found.vectors, written.vectors)
    assert found.payloads == written.payloads


def test_a_name_that_qdrant_refuses_is_one_clear_error(place: Place) -> None:
    if place.kind in ("rest", "grpc"):
        pytest.skip("the loopback server has no rules of its own for names")
    with pytest.raises(WriteError):
        open_sink(place.uri("a<b"), SPEC)


def test_a_plain_client_searches_what_was_written(place: Place) -> None:
    if place.kind in ("rest", "grpc"):
        pytest.skip("the loopback server does not search")
    name, batch = place.name(), points([1, 2, 3])
    place.write(name, batch, metric=Metric.COSINE)
    with place.client() as client:
        found = client.query_points(name, query=batch.vectors[1].tolist(), limit=1).points[0]
    assert (found.id, found.score) == (2, pytest.approx(1.0, abs=1e-5))
