"""LanceDB tables arrive whole, with their columns and index, and are left alone."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.corpus import Corpus
from support.crash import check_a_kill_changes_nothing, contents, make_source, make_translator
from support.small_disk import enlarge, small_disk
from typer.testing import CliRunner

from vecmigrate import (
    Procrustes,
    migrate,
    open_sink,
    open_source,
    open_updater,
    resume_sink,
    save_translator,
)
from vecmigrate.cli import app
from vecmigrate.connector import IdKind, Metric, Provenance, TargetSpec, VectorBatch
from vecmigrate.errors import (
    ExitCode,
    InputError,
    MismatchError,
    TargetExistsError,
    UsageError,
    WriteError,
)
from vecmigrate.sync import SyncOptions, sync

COUNT, DIM = 2500, 16


def connect(database: Path) -> Any:
    """Open a database by the library itself, which takes a second to import."""
    import lancedb

    return lancedb.connect(database)


def index(kind: str, metric: str = "l2", **settings: Any) -> Callable[[], Any]:
    """Return what makes the settings of an index."""

    def make() -> Any:
        from lancedb import index as kinds

        return getattr(kinds, kind)(distance_type=metric, **settings)

    return make


def unit_vectors(count: int = COUNT, dimension: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def arrow(vectors: np.ndarray, **columns: Any) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"vector": lists, **columns})


def make_table(folder: Path, name: str = "docs", table: pa.Table | None = None) -> Any:
    """A table as a user of LanceDB has it, written in two steps."""
    table = own_table() if table is None else table
    made = connect(folder / "db").create_table(name, table.slice(0, 1000), on_bad_vectors="null")
    if table.num_rows > 1000:
        made.add(table.slice(1000))
    return made


def own_table(count: int = COUNT) -> pa.Table:
    start = datetime.datetime(2026, 1, 1)
    return arrow(
        unit_vectors(count),
        key=pa.array([f"doc'{n}" for n in range(count)]),
        text=[f"the text of {n}" for n in range(count)],
        n=pa.array(range(count), pa.int32()),
        at=pa.array([start + datetime.timedelta(hours=n) for n in range(count)]),
        tags=[["a", str(n)] if n % 2 else None for n in range(count)],
        price=pa.array([f"{n}.25" for n in range(count)]).cast(pa.decimal128(12, 2)),
        kind=pa.array(["odd" if n % 2 else "even" for n in range(count)]).dictionary_encode(),
        where=[{"page": n, "name": f"p{n}"} for n in range(count)],
    )


def identity(dimension: int = DIM) -> Procrustes:
    return Procrustes(center=False, scale=False).fit(np.eye(dimension), np.eye(dimension))


def uri(folder: Path, name: str = "docs", options: str = "id=key") -> str:
    return f"lancedb:{folder}/db/{name}" + (f"?{options}" if options else "")


def read_arrow(folder: Path, name: str) -> pa.Table:
    return connect(folder / "db").open_table(name).to_arrow()


def read_by_key(of: str) -> dict[str, Any]:
    with open_source(of) as source:
        return {
            str(point_id): payload
            for batch in source.batches(COUNT)
            for point_id, payload in zip(batch.ids.tolist(), batch.each_payload(), strict=True)
        }


def test_a_table_comes_back_exactly_with_its_columns(tmp_path: Path) -> None:
    make_table(tmp_path)
    result = migrate(uri(tmp_path), uri(tmp_path, "new", ""), identity())
    assert result.written == COUNT
    old, new = read_arrow(tmp_path, "docs"), read_arrow(tmp_path, "new")
    assert new["vecmigrate_payload"].null_count == COUNT
    for name in old.schema.names:
        assert new.schema.field(name).type == old.schema.field(name).type
        if name != "vector":
            assert new[name].to_pylist() == old[name].to_pylist(), name
    arrays = [t["vector"].combine_chunks().flatten().to_numpy() for t in (old, new)]
    np.testing.assert_allclose(arrays[1], arrays[0], rtol=0, atol=1e-6)


def test_batches_are_full_and_in_order_whatever_the_fragments(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    table.delete("n in (5, 1700)")
    with open_source(uri(tmp_path)) as source:
        batches = list(source.batches(700))
        assert [len(b) for b in batches] == [700, 700, 700, 398]
        ids = [i for b in batches for i in b.ids.tolist()]
        assert ids == [f"doc'{n}" for n in range(COUNT) if n not in (5, 1700)]
        assert [i for part in source.ids(1000) for i in part.tolist()] == ids
        rest = [i for b in source.batches(900, cursor=batches[1].cursor) for i in b.ids.tolist()]
        assert rest == ids[1400:]
        fetched = source.fetch(ids[::-1][:1500])
        assert fetched.ids.tolist() == ids[::-1][:1500]


def test_what_is_written_meanwhile_is_not_seen(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    with open_source(uri(tmp_path)) as source:
        before = source.fingerprint()
        first = next(source.batches(10))
        table.add(own_table(10))
        table.delete("n < 3")
        assert sum(len(b) for b in source.batches(1000)) == COUNT
        assert next(source.batches(10)).ids.tolist() == first.ids.tolist()
        assert source.fingerprint() == before
    with open_source(uri(tmp_path)) as source:
        assert source.fingerprint() != before
        changed = source.fingerprint()
    table.update(where="n = 7", values={"text": "another"})
    with open_source(uri(tmp_path)) as source:
        assert source.fingerprint() != changed


@pytest.mark.parametrize(
    ("config", "metric", "expected"),
    [
        (
            index("IvfPq", "cosine", num_partitions=6, num_sub_vectors=4, num_bits=8),
            Metric.COSINE,
            "IVF_PQ(num_partitions=6, num_sub_vectors={}, num_bits=8)",
        ),
        (
            index("IvfFlat", "dot", num_partitions=5),
            Metric.DOT,
            "IVF_FLAT(num_partitions=5)",
        ),
        (
            index("HnswSq", "l2", num_partitions=2, m=9, ef_construction=60),
            Metric.EUCLID,
            "IVF_HNSW_SQ(num_partitions=2, m=9, ef_construction=60)",
        ),
    ],
)
def test_the_index_is_made_again(
    tmp_path: Path, config: Callable[[], Any], metric: Metric, expected: str
) -> None:
    table = make_table(tmp_path)
    table.create_index("vector", config=config())
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 24)))[0][:DIM]
    wider = Procrustes(center=False).fit(np.eye(DIM), turn)
    migrate(uri(tmp_path), uri(tmp_path, "new", ""), wider)
    with open_source(uri(tmp_path)) as old, open_source(uri(tmp_path, "new", "")) as new:
        assert old.describe().index_type == expected.format(4)
        assert new.describe().index_type == expected.format(6)
        assert old.describe().metric is new.describe().metric is metric
        assert "nprobes" in str(new.search_parameter())
        other = Metric.DOT if metric is Metric.COSINE else Metric.COSINE
        with pytest.raises(UsageError, match="index by"):
            open_source(uri(tmp_path, "new", f"metric={other}")).describe()
        query = next(new.batches(5))
        found = new.search(query.vectors, 30)
        assert found is not None
        assert all(i in ids.tolist() for i, ids in zip(query.ids.tolist(), found, strict=True))


@pytest.mark.parametrize("indexed", [False, True])
def test_the_nearest_rows_that_pass_a_condition_come_whole(tmp_path: Path, indexed: bool) -> None:
    table = make_table(tmp_path)
    if indexed:
        table.create_index("vector", config=index("IvfFlat", "cosine", num_partitions=2)())
    given, cases = unit_vectors(), {
        None: range(COUNT),
        "n >= 2480": range(2480, COUNT),
        "kind = 'odd' AND `where`.page < 30": range(1, 30, 2),
        "key IN ('doc''7', 'doc''9')": (7, 9),
        "tags IS NULL": range(0, COUNT, 2),
        "at < timestamp '2026-01-01 05:00:00'": range(5),
        "n > 10000": (),
    }  # fmt: skip
    payloads = read_by_key(uri(tmp_path))
    with open_source(uri(tmp_path)) as source:
        for where, passing in cases.items():
            found = source.nearest(given[:3], 8, where=where)
            assert found is not None
            for query, points in zip(given, found, strict=False):
                rows = np.array(passing, np.intp)
                if not indexed or where is not None:
                    best = rows[np.argsort(-(given[rows] @ query), kind="stable")][:8]
                    assert points.ids.tolist() == [f"doc'{n}" for n in best]
                    np.testing.assert_array_equal(points.vectors, given[best])
                told = [payloads[i] for i in points.ids.tolist()]
                assert list(points.each_payload()) == told


@pytest.mark.parametrize(
    "where",
    ["", "  ", "missing = 3", "n <", "n", "n = 'seven'", '{"must": []}', "n +", "n = ?"],
)
def test_a_condition_that_is_none_is_the_user_s_mistake(tmp_path: Path, where: str) -> None:
    make_table(tmp_path)
    with open_source(uri(tmp_path)) as source:
        with pytest.raises(UsageError):
            source.nearest(unit_vectors()[:2], 3, where=where)
        wrong = unit_vectors(2, DIM + 1)
        with pytest.raises(InputError):
            source.nearest(wrong, 3, where="n = 1")


def test_many_partitions_are_counted_to_three_digits(tmp_path: Path) -> None:
    table = make_table(tmp_path, table=arrow(unit_vectors(), id=range(COUNT)))
    for asked, told in ((999, 999), (1203, 1200)):
        table.create_index("vector", config=index("IvfFlat", num_partitions=asked, sample_rate=2)())
        with open_source(uri(tmp_path, "docs", "")) as source:
            assert source.describe().index_type == f"IVF_FLAT(num_partitions={told})"


def test_faiss_to_lancedb_and_back(corpus: Corpus, tmp_path: Path) -> None:
    there, back = f"lancedb:{tmp_path}/db/there?index=ivf_flat", f"faiss:{tmp_path}/back.faiss"
    dimension = corpus.old.shape[1]
    migrate(corpus.source, there, identity(dimension))
    migrate(there, back, identity(dimension))
    old, new = contents(corpus.source), contents(back)
    assert old.keys() == new.keys()
    assert [p for _, p in old.values()] == [p for _, p in new.values()]
    with open_source(there) as source:
        described = source.describe()
    assert described.index_type.startswith("IVF_FLAT(")
    assert described.text_field == "text"
    assert described.metric is Metric.DOT or described.metric is Metric.COSINE
    for (vector, _), (again, _) in zip(old.values(), new.values(), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(again, np.float32), np.frombuffer(vector, np.float32), atol=1e-6
        )


def test_no_payload_is_lost_to_a_column_s_type(tmp_path: Path) -> None:
    payloads: list[dict[str, Any]] = [
        {"n": 1, "x": 1.0, "s": "a", "b": True, "ID": 5, "dotted.name": 1, "_own": 2},
        {"n": 2**70, "x": 2, "s": None, "b": 0, "later": [1, "two"], "vector": [1]},
        {"n": "three", "x": float(2**60), "s": "é", "id": "field", "vecmigrate_payload": "{}"},
        {},
    ]
    target = uri(tmp_path, "t", "")
    batch = VectorBatch(np.arange(4), unit_vectors(4), payloads)
    with open_sink(target, TargetSpec(dimension=DIM, metric=Metric.COSINE)) as sink:
        sink.write(batch.take(np.array([0])))
        sink.write(batch.take(np.array([1, 2, 3])))
        sink.finish()
    with open_source(target) as source:
        [read] = source.batches(10)
    assert json.dumps(list(map(dict, read.each_payload())), sort_keys=True) == json.dumps(
        payloads, sort_keys=True
    )
    table = read_arrow(tmp_path, "t")
    assert table.schema.field("n").type == pa.int64()
    assert connect(tmp_path / "db").open_table("t").count_rows("n = 1") == 1


def test_a_killed_migration_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = uri(tmp_path, "whole", ""), uri(tmp_path, "killed", "")
    check_a_kill_changes_nothing(tmp_path, whole, killed)
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == [
        "killed.lance",
        "whole.lance",
    ]


def test_a_full_disk_is_one_error_and_goes_on_with_more_room(tmp_path: Path) -> None:
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 2000)
    arguments = {"state": tmp_path / "s", "batch_size": 200, "checkpoint_seconds": 0.0}
    with small_disk(tmp_path, "100k") as disk:
        target = f"lancedb:{disk}/db/new"
        with pytest.raises(WriteError, match="cannot be written"):
            migrate(source, target, tmp_path / "translator", **arguments)
        assert not (disk / "db" / "new.lance").exists()
        enlarge(disk, "4m")
        result = migrate(source, target, tmp_path / "translator", **arguments)
        assert result.continued_after > 0
        assert len(contents(target)) == 2000


def test_a_run_killed_while_the_index_is_made_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 300)
    whole, target = uri(tmp_path, "whole", ""), uri(tmp_path, "new", "index=ivf_flat")
    migrate(source, whole, tmp_path / "translator", batch_size=50)
    arguments = {"state": tmp_path / "s", "batch_size": 50, "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:

        def die(*given: object) -> None:
            raise SystemExit

        patch.setattr("vecmigrate_lancedb.sink.make_index", die)
        with pytest.raises(SystemExit):
            migrate(source, target, tmp_path / "translator", **arguments)
    assert migrate(source, target, tmp_path / "translator", **arguments).written == 300
    assert list(contents(target)) == list(contents(whole))
    assert contents(target) == contents(whole)


def test_a_run_killed_just_after_publishing_is_known_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_translator(tmp_path)
    source, target = make_source("faiss", tmp_path, 60), uri(tmp_path, "new", "")
    with monkeypatch.context() as patch:

        def die(self: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("vecmigrate.connector.Staging.discard", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(source, target, tmp_path / "translator", state=tmp_path / "s")
    assert (tmp_path / "db" / ".vecmigrate-new").is_dir()
    result = migrate(source, target, tmp_path / "translator", state=tmp_path / "s")
    assert result.written == 60
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["new.lance"]


def test_a_table_follows_its_source(tmp_path: Path) -> None:
    old, new = uri(tmp_path, "docs"), uri(tmp_path, "new", "index=ivf_flat")
    table, translator, state = make_table(tmp_path), tmp_path / "t", tmp_path / "s" / "state"
    save_translator(identity(), translator)
    migrate(old, new, translator, state=state)
    assert sync(old, new, translator, state, SyncOptions()).wrote == 0
    table.add(own_table(COUNT + 3).slice(COUNT))
    table.delete("n in (4, 5)")
    table.update(where="n = 7", values={"text": "another text"})
    with open_source(new) as reader:
        done = sync(old, new, translator, state, SyncOptions())
        assert (done.arrived, done.changed, done.vanished) == (3, 1, 2)
        assert sum(len(b) for b in reader.batches(1000)) == COUNT  # it has its own version
    expected, found = contents(old), contents(new)
    assert {i: p for i, (_, p) in found.items()} == {i: p for i, (_, p) in expected.items()}
    for point, (vector, _) in expected.items():
        np.testing.assert_allclose(
            np.frombuffer(found[point][0], np.float32), np.frombuffer(vector, np.float32), atol=1e-6
        )
    with open_source(new) as source:
        provenance = source.describe().provenance
        assert source.describe().index_type.startswith("IVF_FLAT(")
    assert provenance is not None
    assert provenance.updated_at is not None
    assert sync(old, new, translator, state, SyncOptions()).wrote == 0


def test_what_an_update_would_damage_is_refused(tmp_path: Path) -> None:
    provenance = Provenance(vecmigrate_version="0", source="faiss:x", created_at="2026-01-01")
    make_table(tmp_path, table=arrow(unit_vectors(3), id=[1, 2, 3]))
    with pytest.raises(MismatchError, match="not written by vecmigrate"):
        open_updater(uri(tmp_path, "docs", ""), provenance)
    target = uri(tmp_path, "t", "")
    with open_sink(target, TargetSpec(dimension=DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        sink.finish()
    batch = VectorBatch(np.array([2, 9, 2]), unit_vectors(3), [{"n": 1}, {"n": 2}, {"n": 3}])
    with open_updater(target, provenance) as updater:
        updater.upsert(batch)
        assert updater.finish().count == 4
    assert json.loads(contents(target)[2][1]) == {"n": 3}
    connect(tmp_path / "db").open_table("t").add_columns({"raw": "cast('x' as binary)"})
    with pytest.raises(MismatchError, match="raw"):
        open_updater(target, provenance)


def test_a_table_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = uri(tmp_path, "new", "")
    with open_sink(target, TargetSpec(dimension=DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        make_table(tmp_path, "new")
        with pytest.raises(TargetExistsError):
            sink.finish()
    assert read_arrow(tmp_path, "new").num_rows == COUNT
    assert [path.name for path in (tmp_path / "db").iterdir()] == ["new.lance"]


def test_readers_list_no_unfinished_table(tmp_path: Path) -> None:
    make_table(tmp_path)
    target, spec = uri(tmp_path, "new", ""), TargetSpec(dimension=DIM, metric=Metric.DOT)
    with open_sink(target, spec) as sink:
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        assert connect(tmp_path / "db").list_tables().tables == ["docs"]
        with pytest.raises(InputError, match="unfinished"):
            open_source(target)
        sink.suspend()
    with pytest.raises(TargetExistsError, match="unfinished"):
        open_sink(target, spec)
    with open_sink(target, spec, restart=True) as sink:
        assert sink.finish().count == 0


@pytest.mark.parametrize(
    ("options", "columns", "error", "says"),
    [
        ("", {"key": ["a", "b"]}, InputError, "no column 'id'"),
        ("id=n", {"n": [0.5, 1.5]}, InputError, "'n' holds double"),
        ("id=n&vector=n", {"n": [1, 2]}, InputError, "not vectors"),
        ("id=n&text=body", {"n": [1, 2]}, InputError, "no payload field 'body'"),
        ("id=n&metric=hamming", {"n": [1, 2]}, UsageError, "'hamming'"),
    ],
)
def test_a_table_that_is_not_understood_is_one_clear_error(
    tmp_path: Path, options: str, columns: dict[str, Any], error: type[Exception], says: str
) -> None:
    make_table(tmp_path, table=arrow(unit_vectors(2), **columns))
    with pytest.raises(error, match=says):
        open_source(uri(tmp_path, "docs", options))


def test_an_id_that_was_added_again_to_a_migrated_table_is_found(tmp_path: Path) -> None:
    target = uri(tmp_path, "t", "")
    with open_sink(target, TargetSpec(dimension=DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        sink.finish()
    table = connect(tmp_path / "db").open_table("t")
    table.add(table.to_arrow().slice(1, 1))
    with open_source(target) as source, pytest.raises(InputError, match="id 1 twice"):
        list(source.ids(10))


def test_bad_rows_are_named(tmp_path: Path) -> None:
    lists = pa.array([[1.0, 0.0], None, [0.0, 1.0]], pa.list_(pa.float32(), 2))
    make_table(tmp_path, "nulls", pa.table({"id": [1, 2, 3], "vector": lists}))
    make_table(tmp_path, "twice", arrow(unit_vectors(3), id=[4, 5, 5]))
    make_table(tmp_path, "none", arrow(unit_vectors(2), id=pa.array([4, None])))
    make_table(tmp_path, "below", arrow(unit_vectors(2), id=[4, -3]))
    for name, says in (
        ("nulls", r"\(id 2\)"),
        ("twice", "id 5 twice"),
        ("none", "no id"),
        ("below", "id -3"),
    ):
        with (
            pytest.raises(InputError, match=says),
            open_source(uri(tmp_path, name, "")) as source,
        ):
            list(source.batches(10))


def test_other_floats_other_vectors_and_the_metric_by_hand(tmp_path: Path) -> None:
    vectors = unit_vectors(4).astype(np.float16)
    more = pa.FixedSizeListArray.from_arrays(pa.array(unit_vectors(4).ravel()), DIM)
    make_table(tmp_path, table=arrow(vectors, id=[3, 1, 2, 0], image=more, raw=[b"x"] * 4))
    with pytest.raises(InputError, match="2 columns of vectors: vector, image"):
        open_source(uri(tmp_path, "docs", ""))
    with open_source(uri(tmp_path, "docs", "vector=vector&metric=cosine")) as source:
        described = source.describe()
        [batch] = source.batches(10)
    assert described.metric is Metric.COSINE
    assert described.id_kind is IdKind.INTEGER
    assert "image" in str(described.notes)
    assert "raw" in str(described.notes)
    np.testing.assert_array_equal(batch.vectors, vectors.astype(np.float32))
    with open_source(uri(tmp_path, "docs", "vector=image")) as source:
        assert source.describe().metric is Metric.EUCLID
        assert any("metric" in note for note in source.describe().notes)


def test_what_the_sink_cannot_hold_is_refused(tmp_path: Path) -> None:
    target = uri(tmp_path, "t", "")
    with pytest.raises(MismatchError, match="manhattan"):
        open_sink(target, TargetSpec(dimension=DIM, metric=Metric.MANHATTAN))
    spec = TargetSpec(dimension=DIM, metric=Metric.DOT)
    for wrong in ("index=tree", "metric=cosine"):
        with pytest.raises(UsageError):
            open_sink(uri(tmp_path, "t", wrong), spec)
    mixed = np.array([1, "a"], dtype=object)
    with open_sink(target, spec) as sink, pytest.raises(MismatchError, match="id 1"):
        sink.write(VectorBatch(mixed, unit_vectors(2)))
    with open_sink(target, spec) as sink:
        sink.write(VectorBatch(np.arange(2), unit_vectors(2)))
        with pytest.raises(MismatchError, match="id a"):
            sink.write(VectorBatch(mixed[1:], unit_vectors(1)))
    assert list((tmp_path / "db").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        open_sink(f"lancedb:{tmp_path}/file/t", spec)


def test_a_checkpoint_that_is_gone_and_another_run_s(tmp_path: Path) -> None:
    target = uri(tmp_path, "t", "")
    mine, other = (
        TargetSpec(
            dimension=DIM,
            metric=Metric.DOT,
            provenance=Provenance(vecmigrate_version="0", source="faiss:x", created_at=when),
        )
        for when in ("2026-01-01", "2026-01-02")
    )
    with pytest.raises(MismatchError, match="nothing is left"):
        resume_sink(target, mine, "1")
    with open_sink(target, mine) as sink:
        early = sink.checkpoint()
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        sink.suspend()
    with pytest.raises(MismatchError, match="checkpoint 99"):
        resume_sink(target, mine, "99")
    with pytest.raises(TargetExistsError, match="another run"):
        resume_sink(target, other, "1")
    assert early is not None
    with resume_sink(target, mine, early) as sink:
        assert sink.finish().count == 0


@pytest.mark.parametrize(
    "text", ["lancedb+s3:bucket/t", "lancedb:s3://bucket/t", "lancedb:db/..", "lancedb:/"]
)
def test_uris_that_name_no_table_here(text: str) -> None:
    with pytest.raises(UsageError):
        open_source(text)


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        open_source(uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line(tmp_path: Path) -> None:
    make_table(tmp_path)
    save_translator(identity(), tmp_path / "t.safetensors")
    run = CliRunner().invoke
    shown = run(app, ["inspect", uri(tmp_path), "--json"])
    assert f'"count": {COUNT}' in shown.output
    arguments = [
        "migrate", uri(tmp_path), uri(tmp_path, "new", ""),
        "--translator", str(tmp_path / "t.safetensors"),
    ]  # fmt: skip
    assert run(app, arguments).exit_code == 0
    again = run(app, [*arguments, "--restart"])
    assert again.exit_code == ExitCode.TARGET_EXISTS
    assert again.exception is None or isinstance(again.exception, SystemExit)


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['lancedb'] = None\n"
        "import vecmigrate_lancedb\n"
        "from vecmigrate.cli import main; sys.argv[1:] = ['inspect', sys.argv[1]]; main()"
    )
    (tmp_path / "db" / "docs.lance").mkdir(parents=True)
    ended = subprocess.run(
        [sys.executable, "-c", code, uri(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.MISSING_DEPENDENCY
    assert "pip install 'vecmigrate[lancedb]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_package_is_loaded_when_a_table_is_opened_only() -> None:
    code = "import sys, vecmigrate_lancedb; print('lancedb' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_verify_says_what_is_next_where_no_name_can_be_moved(corpus: Corpus) -> None:
    path, target = corpus.folder / "t.safetensors", f"lancedb:{corpus.folder}/db/new"
    save_translator(Procrustes().fit(corpus.old[:100], corpus.new[:100]), path)
    migrate(corpus.source, target, path)
    result = CliRunner().invoke(app, ["verify", corpus.source, target, "--translator", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith(f"Next: point your readers at {target}")
