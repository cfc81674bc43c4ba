"""What is lossy, refused, or kept by more than a migration: the other rows of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from support.qdrant.cases import CASES, COUNT, SIZE, Case, dense, params, sparse, tokens, whole
from support.qdrant.migrating import Reversal, make, named, records, settings
from support.qdrant.places import SERVED, Place, need_shard_keys, open_place, points

from vecmigrate import migrate, open_source, open_updater
from vecmigrate.connector import Provenance
from vecmigrate.errors import (
    BadVectorError,
    MismatchError,
    TerminatedError,
    UsageError,
)
from vecmigrate.state.file import open_records
from vecmigrate.state.ledger import ledger_path
from vecmigrate.sync import SyncOptions, status_of, sync
from vecmigrate.translators import Procrustes, save_translator
from vecmigrate.verification import Check, CheckResult, VerifyOptions, verify

BY_FEATURE = {case.feature: case for case in CASES}
NAMED = Case(
    "named",
    "",
    {
        "vectors_config": {"text": params(), "image": params(5)},
        "sparse_vectors_config": {"bm25": models.SparseVectorParams()},
    },
    lambda row: {"text": dense(row), "image": dense(row + 1, 5), "bm25": sparse(row)},
    option="vector=text",
)
LACKING = BY_FEATURE["points without the chosen vector"]
COLBERT = BY_FEATURE["a chosen multivector, as of ColBERT"]
SHARDED = BY_FEATURE["custom shard keys"]


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Place]:
    with open_place("embedded", tmp_path) as opened:
        yield opened


@pytest.fixture(params=SERVED[1:])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    """A file, of a map that is as good as exact."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, SIZE)).astype(np.float32)
    save_translator(Procrustes().fit(X, X[:, ::-1]), tmp_path / "t")
    return tmp_path / "t"


def read(place: Place, name: str) -> dict[int | str, models.Record]:
    with place.client() as client:
        return records(client, name)


def all_but(record: models.Record, vector: str) -> tuple[object, ...]:
    others = {name: v for name, v in named(record).items() if name != vector}
    return record.id, record.payload, record.shard_key, others


def assert_alike(old: dict[Any, models.Record], new: dict[Any, models.Record], vector: str) -> None:
    assert list(old) == list(new)
    for point, record in old.items():
        assert all_but(new[point], vector) == all_but(record, vector)
        ours, theirs = named(record).get(vector), named(new[point]).get(vector)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(theirs, ours[::-1], atol=1e-5)


def test_bytes_become_float32(served: Place) -> None:
    case = Case(
        "uint8",
        "",
        {"vectors_config": params(datatype=models.Datatype.UINT8)},
        lambda row: {"": whole(row)},
    )
    old, new = served.name("old"), served.name("new")
    make(served, case, old)
    result = migrate(served.uri(old), served.uri(new), Reversal())
    assert [note for note in result.notes if "not as uint8" in note]
    with served.client() as client:
        before, after = settings(client, old), settings(client, new)
        found = records(client, new)
    assert before["params"]["vectors"].pop("datatype") == "uint8"
    assert after == before
    assert [found[case.id_of(row)].vector for row in range(9)] == [
        whole(row)[::-1] for row in range(9)
    ]
    assert len(found) == COUNT


def test_a_server_to_embedded_storage(served: Place, embedded: Place) -> None:
    old, new = served.name("old"), embedded.name("new")
    case = replace(
        NAMED,
        create={**NAMED.create, "hnsw_config": models.HnswConfigDiff(m=5)},
        indexes={"n": models.PayloadSchemaType.INTEGER},
        change={"strict_mode_config": models.StrictModeConfig(enabled=True, max_query_limit=500)},
    )
    make(served, case, old)
    result = migrate(served.uri(old, case.option), embedded.uri(new), Reversal())
    [note] = [note for note in result.notes if note.startswith("embedded Qdrant keeps no")]
    for lost in ("hnsw_config", "strict_mode_config"):
        assert lost in note
    assert "embedded Qdrant has no payload indexes: n" in result.notes
    assert_alike(read(served, old), read(embedded, new), "text")


def test_shard_keys_to_embedded_storage(served: Place, embedded: Place) -> None:
    need_shard_keys(served)
    old, new = served.name("old"), embedded.name("new")
    make(served, SHARDED, old)
    with pytest.raises(MismatchError):
        migrate(served.uri(old), embedded.uri(new), Reversal())
    assert not embedded.exists(new)


def test_embedded_storage_to_a_server(served: Place, embedded: Place) -> None:
    old, new = embedded.name("old"), served.name("new")
    make(embedded, NAMED, old)
    result = migrate(embedded.uri(old, NAMED.option), served.uri(new), Reversal())
    assert [note for note in result.notes if "the server's own are used" in note]
    assert_alike(read(embedded, old), read(served, new), "text")


def test_named_vectors_to_another_store(embedded: Place, tmp_path: Path) -> None:
    old, lacking = embedded.name("old"), embedded.name("lacking")
    case = replace(NAMED, integer_ids=True)
    make(embedded, case, old)
    faiss = f"faiss:{tmp_path}/new.faiss"
    result = migrate(embedded.uri(old, case.option), faiss, Reversal())
    assert result.notes == (
        f"the named vectors 'image', 'bm25' are not copied: {faiss} holds one vector a point",
    )
    with open_source(faiss) as target:
        found = target.fetch([7, 8])
    np.testing.assert_array_equal(found.vectors, np.float32([dense(7)[::-1], dense(8)[::-1]]))

    make(embedded, replace(LACKING, integer_ids=True), lacking)
    source, target_uri = embedded.uri(lacking, "vector=text"), f"faiss:{tmp_path}/lacking.faiss"
    with pytest.raises(BadVectorError, match=r"missing vectors, ids 0, 3, 6"):
        migrate(source, target_uri, Reversal())
    skipping = migrate(source, target_uri, Reversal(), on_bad_vector="skip")
    assert skipping.skipped_ids == list(range(0, COUNT, 3))
    assert skipping.written == COUNT - len(skipping.skipped_ids)


def test_sync_keeps_the_other_vectors(served: Place, translator: Path, tmp_path: Path) -> None:
    old, new, state = served.name("old"), served.name("new"), tmp_path / "state" / "s.sqlite"
    make(served, LACKING, old)
    source, target = served.uri(old, "vector=text"), served.uri(new, "vector=text")
    migrate(source, target, translator, state=state)
    planned = sync(source, target, translator, state, SyncOptions(dry_run=True))
    assert (planned.arrived, planned.changed, planned.compared) == (0, 0, 0)
    first = sync(source, target, translator, state, SyncOptions(batch_size=500))
    assert (first.wrote, first.adopted) == (0, 0)
    # Without what the migration noted, each is compared.
    ledger_path(state, target).unlink()
    planned = sync(source, target, translator, state, SyncOptions(dry_run=True))
    assert (planned.arrived, planned.changed, planned.compared) == (0, 0, COUNT)
    first = sync(source, target, translator, state, SyncOptions(batch_size=150))
    assert (first.wrote, first.adopted) == (0, COUNT)
    arrived = models.PointStruct(
        id=90_001, vector={"text": dense(1), "image": dense(2, 5)}, payload={"n": -1}
    )
    changed = models.PointVectors(id=1, vector={"image": [9.0, 9.0, 9.0, 9.0, 9.0]})
    with served.client() as client:
        client.upsert(old, [arrived])
        change(client, old, changed)
        gone = list(records(client, old))[1]
        client.delete(old, models.PointIdsList(points=[gone]))
    assert gone == 3
    result = sync(source, target, translator, state, SyncOptions(batch_size=150))
    assert (result.arrived, result.changed, result.vanished) == (1, 1, 1)
    before, after = read(served, old), read(served, new)
    assert named(after[1])["image"] == [9.0] * 5
    assert_alike(before, after, "text")


@pytest.mark.parametrize("bare", [0, 5])
def test_what_has_no_vector_is_not_native(
    served: Place, translator: Path, tmp_path: Path, bare: int
) -> None:
    old, new, state = served.name("old"), served.name("new"), tmp_path / "state" / "s.sqlite"
    with served.client() as client:
        client.create_collection(old, vectors_config={"text": params()})
        if bare:
            lacking = [models.PointStruct(id=i, vector={}, payload={"n": i}) for i in range(bare)]
            client.upsert(old, lacking)
    source, target = served.uri(old), served.uri(new)
    migrate(source, target, translator, state=state)
    assert sync(source, target, translator, state).wrote == 0
    with open_records(state) as kept:
        told = status_of(target, state, kept)
    assert (told.count, told.without_vector, told.is_native) == (bare, bare, False)


def test_sync_to_another_store_does_not_miss_the_other_vectors(
    embedded: Place, translator: Path, tmp_path: Path
) -> None:
    old, state = embedded.name("old"), tmp_path / "state" / "s.sqlite"
    make(embedded, replace(NAMED, integer_ids=True), old)
    source, target = embedded.uri(old, NAMED.option), f"faiss:{tmp_path}/new.faiss"
    migrate(source, target, translator, state=state)
    result = sync(source, target, translator, state)
    assert (result.adopted, result.changed, result.arrived) == (0, 0, 0)


def change(client: QdrantClient, name: str, point: models.PointVectors) -> None:
    """Change one vector of a point (the loopback server knows upserts alone)."""
    record = records(client, name)[point.id]  # type: ignore[index]
    vectors = {**named(record), **point.vector}  # type: ignore[dict-item]
    key = record.shard_key
    moved = models.PointStruct(id=record.id, vector=vectors, payload=record.payload)
    client.upsert(name, [moved], shard_key_selector=key)


def test_an_update_leaves_out_what_the_target_has_no_place_for(
    served: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a target that was written before other vectors were copied."""
    name = served.name()
    provenance = Provenance(vecmigrate_version="0", source="qdrant:old", created_at="2026-01-01")
    batch = points(list(range(9)))
    served.write(name, batch, provenance=provenance)
    extras = [{"vectors": {"ghost": [1.0]}, "shard_key": "nowhere"}] * 9
    with open_updater(served.uri(name), provenance) as updater:
        for _ in range(2):
            updater.upsert(batch.with_vectors(-batch.vectors).with_extras(extras))
        updater.finish()
    with open_source(served.uri(name)) as source:
        np.testing.assert_array_equal(source.fetch([0, 8]).vectors, -batch.vectors[[0, 8]])
    [said] = [record.getMessage() for record in caplog.records]
    assert said.endswith("has no vectors 'ghost': not copied")


def test_sync_moves_a_point_between_shard_keys(
    served: Place, translator: Path, tmp_path: Path
) -> None:
    need_shard_keys(served)
    old, new, state = served.name("old"), served.name("new"), tmp_path / "state" / "s.sqlite"
    make(served, SHARDED, old)
    migrate(served.uri(old), served.uri(new), translator, state=state)
    assert sync(served.uri(old), served.uri(new), translator, state).wrote == 0
    with served.client() as client:
        record = records(client, old)[1]
        assert record.shard_key == "asia"
        moved = models.PointStruct(id=1, vector=record.vector, payload=record.payload)
        client.upsert(old, [moved], shard_key_selector="europe")
        client.delete(old, models.PointIdsList(points=[1]), shard_key_selector="asia")
    told = sync(served.uri(old), served.uri(new), translator, state)
    assert (told.arrived, told.changed, told.vanished) == (1, 0, 1)
    after = read(served, new)
    assert after[1].shard_key == "europe"
    assert_alike(read(served, old), after, "")


def test_resume_keeps_the_other_vectors(served: Place, translator: Path, tmp_path: Path) -> None:
    old, new, state = served.name("old"), served.name("new"), tmp_path / "state" / "s.sqlite"
    make(served, LACKING, old)
    source, target = served.uri(old, "vector=text"), served.uri(new)
    with pytest.raises(TerminatedError, match="after 150 points"):
        migrate(source, target, translator, state=state, batch_size=150, stop=lambda: True)
    assert migrate(source, target, translator, state=state).continued_after == 150
    assert_alike(read(served, old), read(served, new), "text")


def test_verify_compares_the_other_vectors(served: Place, translator: Path, tmp_path: Path) -> None:
    old, new = served.name("old"), served.name("new")
    make(served, LACKING, old)
    source, target = served.uri(old, "vector=text"), served.uri(new)
    migrate(source, target, translator)

    def check(at: str) -> tuple[CheckResult, str]:
        found = verify(source, at, translator, VerifyOptions(full=True))
        [mine] = [check for check in found.checks if check.name == "other vectors"]
        return mine.outcome, mine.summary

    with_text = COUNT - len(range(0, COUNT, 3))
    assert check(target) == (
        CheckResult.PASSED,
        f"'image', 'bm25' of {with_text:,} points are the source's",
    )
    with served.client() as client:
        change(client, new, models.PointVectors(id=1, vector={"image": [9.0, 9.0, 9.0, 9.0, 9.1]}))
        change(client, new, models.PointVectors(id=7, vector={"bm25": sparse(8)}))
    outcome, summary = check(target)
    assert outcome is CheckResult.FAILED
    assert summary.endswith(f"of 2 of {with_text:,} points are not the source's, ids 1, 7")
    faiss = f"faiss:{tmp_path}/new.faiss"
    integers = served.name("integers")
    make(served, replace(NAMED, integer_ids=True), integers)
    source = served.uri(integers, "vector=text")
    migrate(source, faiss, translator)
    assert check(faiss) == (CheckResult.SKIPPED, "'image', 'bm25' are not at the target")


def test_verify_compares_each_vector_of_a_multivector(served: Place, translator: Path) -> None:
    old, new = served.name("old"), served.name("new")
    make(served, COLBERT, old)
    source, target = served.uri(old, COLBERT.option), served.uri(new)
    migrate(source, target, translator)

    def outcomes() -> dict[str, Check]:
        found = verify(source, target, translator, VerifyOptions(full=True))
        return {check.name: check for check in found.checks}

    found = outcomes()
    assert {c.outcome for n, c in found.items() if n != "index recall"} == {CheckResult.PASSED}
    assert found["index recall"].outcome is CheckResult.SKIPPED
    assert "several vectors" in found["index recall"].summary
    assert found["count"].summary == f"{COUNT:,} points"
    assert found["vectors"].figures["compared"] == sum(1 + row % 5 for row in range(COUNT))
    with served.client() as client:
        [few, more] = [named(records(client, new)[i])["tokens"] for i in (3, 9)]
        wrong = [*few[:2], (np.array(few[2]) + 0.5).tolist(), *few[3:]]
        change(client, new, models.PointVectors(id=3, vector={"tokens": wrong}))
        change(client, new, models.PointVectors(id=9, vector={"tokens": more[:-1]}))
    failed = outcomes()["vectors"]
    assert (failed.outcome, failed.figures["wrong"]) == (CheckResult.FAILED, 2)
    assert failed.summary.endswith(("ids 9, 3", "ids 3, 9"))


def test_where_multivectors_are_refused(embedded: Place, translator: Path, tmp_path: Path) -> None:
    old, new, state = embedded.name("old"), embedded.name("new"), tmp_path / "state" / "s.sqlite"
    make(embedded, COLBERT, old)
    source, target = embedded.uri(old, COLBERT.option), embedded.uri(new, COLBERT.option)
    with pytest.raises(MismatchError, match="several vectors each"):
        migrate(source, f"faiss:{tmp_path}/new.faiss", Reversal())
    assert not (tmp_path / "new.faiss").exists()
    migrate(source, target, translator, state=state)
    with pytest.raises(UsageError, match="several vectors each"):
        sync(source, target, translator, state)
    with open_source(source) as opened, pytest.raises(UsageError, match=r"'tokens'.*multivector"):
        next(opened.batches(5))
    assert tokens(0) == read(embedded, old)[COLBERT.id_of(0)].vector["tokens"]  # type: ignore[index,call-overload]


def test_a_sparse_vector_is_not_translated(embedded: Place) -> None:
    old = embedded.name("old")
    make(embedded, NAMED, old)
    with pytest.raises(UsageError, match=r"'bm25' .*is a sparse vector.*'text', 'image'"):
        open_source(embedded.uri(old, "vector=bm25"))


def test_a_name_that_another_vector_has(served: Place) -> None:
    old, new = served.name("old"), served.name("new")
    make(served, NAMED, old)
    for taken in ("image", "bm25"):
        with pytest.raises(UsageError, match=f"cannot be named '{taken}'"):
            migrate(served.uri(old, NAMED.option), served.uri(new, f"vector={taken}"), Reversal())
        assert not served.exists(new)
    migrate(served.uri(old, NAMED.option), served.uri(new, "vector=fresh"), Reversal())
    after = read(served, new)
    assert set(named(after[1])) == {"fresh", "image", "bm25"}
    assert len(after) == COUNT


def test_aliases_stay(embedded: Place) -> None:
    old, new = embedded.name("old"), embedded.name("new")
    make(embedded, NAMED, old)
    alias = models.CreateAlias(collection_name=old, alias_name="live")
    with embedded.client() as client:
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    migrate(embedded.uri("live", NAMED.option), embedded.uri(new), Reversal())
    with embedded.client() as client:
        [found] = client.get_aliases().aliases
        assert (found.alias_name, found.collection_name) == ("live", old)
        assert len(records(client, new)) == COUNT
