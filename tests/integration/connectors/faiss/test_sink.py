"""Writing FAISS index files: kinds kept, ids and payloads whole, nothing half done."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.faiss.indexes import (
    COUNT,
    DIMENSION,
    OWN_IDS,
    WITH_IDS,
    make_index,
    save,
    sparse_ids,
    vectors,
    write_jsonl,
)
from support.forked import run_forked
from vecmigrate_faiss.index.base import scaled_for

from vecmigrate import open_sink, open_source
from vecmigrate.connector import (
    CollectionDescription,
    IdKind,
    InputError,
    LockedError,
    Metric,
    MismatchError,
    Provenance,
    TargetExistsError,
    TargetSpec,
    UsageError,
    VectorBatch,
    WriteError,
    id_array,
)

NEW = 24
"""The new encoder's dimension."""

PLAIN = TargetSpec(dimension=DIMENSION, metric=Metric.EUCLID)


def translated(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stands in for a translator: the rows with eight more components."""
    return np.ascontiguousarray(np.hstack([rows, rows[:, :8] * 2]), dtype=np.float32)


def copy(source_uri: str, target_uri: str, **changes: Any) -> CollectionDescription:
    with open_source(source_uri) as source:
        spec = TargetSpec.like(source.describe(), dimension=NEW, **changes)
        with open_sink(target_uri, spec) as sink:
            for batch in source.batches(70):
                sink.write(batch.with_vectors(translated(batch.vectors)))
            return sink.finish()


def write(uri: str, *batches: VectorBatch, spec: TargetSpec = PLAIN) -> CollectionDescription:
    with open_sink(uri, spec) as sink:
        for batch in batches:
            sink.write(batch)
        return sink.finish()


def points(ids: list[Any], payloads: list[Any] | None = None, seed: int = 0) -> VectorBatch:
    return VectorBatch(id_array(ids), vectors(len(ids), seed), payloads)


def read(uri: str) -> dict[Any, tuple[bytes, Any]]:
    with open_source(uri) as source:
        return {
            i: (vector.tobytes(), fields)
            for batch in source.batches(70)
            for i, vector, fields in zip(
                batch.ids.tolist(),
                batch.vectors,
                batch.payloads or [None] * len(batch),
                strict=True,
            )
        }


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
@pytest.mark.parametrize(
    ("words", "given_ids"),
    [*((words, False) for words in OWN_IDS), *((words, True) for words in WITH_IDS)],
)
def test_kind_metric_ids_and_vectors_are_kept(
    tmp_path: Path, words: str, given_ids: bool, metric: int
) -> None:
    ids = sparse_ids() if given_ids else np.arange(COUNT)
    source = save(make_index(words, metric, ids if given_ids else None), tmp_path / "old.faiss")
    found = copy(source, f"faiss:{tmp_path}/new.faiss")
    assert (found.index_type, found.count, found.dimension) == (words, COUNT, NEW)
    assert found.metric is (Metric.EUCLID if metric == faiss.METRIC_L2 else Metric.DOT)
    assert found.notes == ()
    expected = translated(vectors())
    assert read(f"faiss:{tmp_path}/new.faiss") == {
        int(i): (row.tobytes(), None) for i, row in zip(ids, expected, strict=True)
    }

    index = faiss.read_index(str(tmp_path / "new.faiss"))
    assert type(index) is type(faiss.read_index(str(tmp_path / "old.faiss")))
    if "IVF" in words:
        faiss.extract_index_ivf(index).nprobe = 9
    exact = faiss.IndexFlat(NEW, metric)
    exact.add(expected)
    distances, nearest = index.search(expected[:40], 3)
    true_distances, true_nearest = exact.search(expected[:40], 3)
    agree = nearest == ids[true_nearest]
    assert agree.mean() > 0.9 if "HNSW" in words else agree.all()
    np.testing.assert_allclose(distances[agree], true_distances[agree], rtol=1e-4, atol=1e-4)


def test_order_is_that_of_writing(tmp_path: Path) -> None:
    for words in ("Flat", "HNSW12,Flat"):
        ids = sparse_ids()
        source = save(make_index(f"IDMap,{words}", ids=ids), tmp_path / f"{words}.old")
        copy(source, f"faiss:{tmp_path}/{words}.new")
        with open_source(f"faiss:{tmp_path}/{words}.new") as target:
            assert np.array_equal(next(iter(target.batches(COUNT))).ids, ids)


def test_parameters_are_kept(tmp_path: Path) -> None:
    index = make_index("IVF9,Flat")
    index.nprobe = 5
    index.make_direct_map()
    copy(save(index, tmp_path / "a"), f"faiss:{tmp_path}/a.new")
    found = faiss.read_index(str(tmp_path / "a.new"))
    assert (found.nlist, found.nprobe) == (9, 5)
    assert np.array_equal(found.reconstruct(17), translated(vectors())[17])

    index = make_index("IVF9,Flat", ids=sparse_ids())
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    copy(save(index, tmp_path / "b"), f"faiss:{tmp_path}/b.new")
    found = faiss.read_index(str(tmp_path / "b.new"))
    assert np.array_equal(found.reconstruct(int(sparse_ids()[17])), translated(vectors())[17])

    index = faiss.IndexHNSWFlat(DIMENSION, 11)
    index.hnsw.efConstruction, index.hnsw.efSearch = 77, 99
    index.add(vectors())
    copy(save(index, tmp_path / "c"), f"faiss:{tmp_path}/c.new")
    found = faiss.read_index(str(tmp_path / "c.new"))
    hnsw = found.hnsw
    assert (hnsw.nb_neighbors(1), hnsw.efConstruction, hnsw.efSearch) == (11, 77, 99)


@pytest.mark.parametrize("words", ["Flat", "HNSW12,Flat"])
def test_an_id_map_is_added_where_a_point_was_left_out(tmp_path: Path, words: str) -> None:
    source = save(make_index(words), tmp_path / "old.faiss")
    with open_source(source) as reader:
        batch = next(iter(reader.batches(COUNT)))
        spec = TargetSpec.like(reader.describe())
    found = write(f"faiss:{tmp_path}/new.faiss", batch.take(batch.ids != 3), spec=spec)
    assert found.index_type == f"IDMap2,{words}"
    assert any("IDMap2 added" in note for note in found.notes)
    assert list(read(f"faiss:{tmp_path}/new.faiss")) == [i for i in range(COUNT) if i != 3]


def test_fewer_lists_where_there_are_fewer_vectors(tmp_path: Path) -> None:
    with open_source(save(make_index("IVF64,Flat"), tmp_path / "old.faiss")) as reader:
        spec = TargetSpec.like(reader.describe())
    found = write(f"faiss:{tmp_path}/new.faiss", points(list(range(30))), spec=spec)
    assert found.index_type == "IVF5,Flat"
    assert any("IVF64,Flat" in note for note in found.notes)
    assert len(read(f"faiss:{tmp_path}/new.faiss")) == 30


@pytest.mark.parametrize("words", ["Flat", "IVF9,Flat", "HNSW12,Flat", "IDMap2,Flat"])
def test_a_collection_of_no_points(tmp_path: Path, words: str) -> None:
    ids = sparse_ids() if "IDMap" in words else None
    with open_source(save(make_index(words, ids=ids), tmp_path / "old.faiss")) as reader:
        spec = TargetSpec.like(reader.describe())
    assert write(f"faiss:{tmp_path}/new.faiss", spec=spec).count == 0
    assert read(f"faiss:{tmp_path}/new.faiss") == {}


def test_settings_of_another_store_do_not_count(tmp_path: Path) -> None:
    spec = TargetSpec(
        dimension=DIMENSION, metric=Metric.MANHATTAN, store="qdrant", settings={"hnsw": 3}
    )
    found = write(f"faiss:{tmp_path}/a.faiss", points([0, 1, 2]), spec=spec)
    assert (found.index_type, found.metric) == ("IDMap2,Flat", Metric.MANHATTAN)


def test_cosine_stores_unit_rows_and_says_so(tmp_path: Path) -> None:
    spec = TargetSpec(dimension=DIMENSION, metric=Metric.COSINE)
    batch = points([5, 6, 7])
    before = batch.vectors.copy()
    found = write(f"faiss:{tmp_path}/a.faiss", batch, spec=spec)
    assert found.metric is Metric.COSINE
    assert np.array_equal(batch.vectors, before)
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    scores, nearest = index.search(before / np.linalg.norm(before, axis=1, keepdims=True), 1)
    assert nearest[:, 0].tolist() == [5, 6, 7]
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    again = copy(f"faiss:{tmp_path}/a.faiss", f"faiss:{tmp_path}/b.faiss")
    assert again.metric is Metric.COSINE


def test_only_what_is_not_of_unit_length_is_scaled() -> None:
    rows = np.random.default_rng(0).standard_normal((500, DIMENSION)).astype(np.float32)
    unit = scaled_for(Metric.COSINE, rows)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=0, atol=1e-6)
    assert scaled_for(Metric.COSINE, unit) is unit
    assert scaled_for(Metric.DOT, rows) is rows
    unit[3] *= np.float32(1.00001)
    assert scaled_for(Metric.COSINE, unit) is not unit


def test_impossible_and_foreign_settings_are_refused(tmp_path: Path) -> None:
    with open_source(save(make_index("IVF9,Flat"), tmp_path / "old.faiss")) as reader:
        like = reader.describe()
    for spec, said in (
        (TargetSpec.like(like, metric=Metric.MANHATTAN), "trains IVF"),
        (TargetSpec.like(like, settings={"index": {"kind": "opq"}}), "index"),
        (TargetSpec.like(like, settings={"index": {"kind": "ivf_flat", "nlist": 0}}), "nlist"),
    ):
        with pytest.raises(MismatchError, match=said):
            open_sink(f"faiss:{tmp_path}/new.faiss", spec)
    assert names(tmp_path) == {"old.faiss"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
payloads = st.dictionaries(
    st.text() | st.sampled_from(["id", "faiss_id", "payload", "vecmigrate", "text"]),
    json_values,
    max_size=4,
)
int64s = st.integers(-(2**63) + 1, 2**63 - 1)
strings = st.text(st.characters(exclude_categories=[]), max_size=8)
point_ids = st.one_of(
    st.lists(int64s, unique=True, max_size=20),
    st.lists(st.uuids().map(str), unique=True, max_size=20),
    st.lists(
        int64s | st.integers(0, 2**64 - 1) | strings,
        unique_by=lambda i: (type(i), i),
        max_size=20,
    ),
)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ids=point_ids, data=st.data())
def test_any_ids_and_payloads_come_back(
    tmp_path_factory: pytest.TempPathFactory, ids: list[Any], data: st.DataObject
) -> None:
    fields = data.draw(st.lists(payloads, min_size=len(ids), max_size=len(ids)))
    cut = data.draw(st.integers(0, len(ids)))
    uri = f"faiss:{tmp_path_factory.mktemp('any')}/a.faiss"
    batch = points(ids, fields)
    rows = np.arange(len(ids))
    write(uri, batch.take(rows[:cut]), batch.take(rows[cut:]))
    found = read(uri)
    assert [*map(repr, found)] == [*map(repr, ids)]
    for row, point_id in enumerate(ids):
        vector, payload = found[point_id]
        assert vector == batch.vectors[row].tobytes()
        assert repr(payload) == repr(fields[row])
    with open_source(uri) as source:
        fetched = source.fetch(ids[::-1])
        assert fetched.ids.tolist() == ids[::-1]
        assert np.array_equal(fetched.vectors, batch.vectors[::-1])
        assert fetched.payloads == (fields[::-1] if ids else None)


def test_uuids_are_numbered_in_the_index_and_named_in_the_sidecar(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    ids = [f"5c56c793-69f3-4fbf-87e6-c4bf54c28c{n:02x}" for n in range(9)]
    found = write(uri, points(ids, [{"text": f"text number {n}"} for n in range(9)]))
    assert found.id_kind is IdKind.UUID
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    assert faiss.vector_to_array(index.id_map).tolist() == list(range(9))
    header, *lines = (tmp_path / "a.faiss.jsonl").read_text().splitlines()
    assert json.loads(header) == {"vecmigrate": {"sidecar": 1, "numbered": True}}
    assert json.loads(lines[4]) == {
        "faiss_id": 4,
        "id": ids[4],
        "payload": {"text": "text number 4"},
    }
    with open_source(uri) as source:
        assert source.texts([ids[4]]) == ["text number 4"]
        assert [i for part in source.ids(4) for i in part.tolist()] == ids
        with pytest.raises(InputError, match="ids 4"):
            source.fetch([4])

    copied = copy(uri, f"faiss:{tmp_path}/b.faiss")
    assert copied.id_kind is IdKind.UUID
    assert list(read(f"faiss:{tmp_path}/b.faiss")) == ids


def test_a_numbered_index_without_its_sidecar_is_refused(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    write(uri, points(["x", "y"]))
    (tmp_path / "a.faiss.jsonl").rename(tmp_path / "moved.jsonl")
    with pytest.raises(InputError, match=r"a\.faiss\.jsonl cannot be read"):
        open_source(uri)
    assert list(read(f"{uri}?sidecar={tmp_path}/moved.jsonl")) == ["x", "y"]
    with pytest.raises(UsageError, match=r"Leave \?id= out"):
        open_source(f"{uri}?sidecar={tmp_path}/moved.jsonl&id=key")


def test_a_set_of_files_can_be_renamed(tmp_path: Path) -> None:
    write(f"faiss:{tmp_path}/a.faiss", points(["x", "y"], [{"n": 1}, {"n": 2}]))
    for end in ("", ".jsonl", ".vecmigrate.json"):
        (tmp_path / f"a.faiss{end}").rename(tmp_path / f"b.index{end}")
    assert [payload for _, payload in read(f"faiss:{tmp_path}/b.index").values()] == [
        {"n": 1},
        {"n": 2},
    ]


@pytest.mark.parametrize("kind", [int, str])
def test_an_id_written_again_has_what_was_written_last(tmp_path: Path, kind: type) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    first = points([kind(i) for i in (9, 4, 6, 4)], [{"n": n} for n in range(4)])
    again = points([kind(9), kind(1)], [{"n": 4}, {"n": 5}], seed=1)
    found = write(uri, first, again)
    assert found.count == 4
    assert read(uri) == {
        kind(6): (first.vectors[2].tobytes(), {"n": 2}),
        kind(4): (first.vectors[3].tobytes(), {"n": 3}),
        kind(9): (again.vectors[0].tobytes(), {"n": 4}),
        kind(1): (again.vectors[1].tobytes(), {"n": 5}),
    }


def test_batches_with_and_without_payloads_mix(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    write(uri, points([1, 2]), points([3], [{"n": 3}]), points([]), points([4]))
    assert [fields for _, fields in read(uri).values()] == [{}, {}, {"n": 3}, {}]


def test_without_payloads_there_is_no_sidecar(tmp_path: Path) -> None:
    write(f"faiss:{tmp_path}/a.faiss", points([4, 5]))
    assert names(tmp_path) == {"a.faiss", "a.faiss.vecmigrate.json"}
    write_jsonl(tmp_path / "a.jsonl", [{"id": 5, "text": "added by the user later"}])
    assert read(f"faiss:{tmp_path}/a.faiss")[5][1] == {"text": "added by the user later"}


def test_provenance_and_text_field_are_told(tmp_path: Path) -> None:
    provenance = Provenance(vecmigrate_version="9", source="faiss:old", created_at="2026-01-01")
    spec = PLAIN.model_copy(update={"provenance": provenance, "text_field": "b"})
    fields = [{"a": "the longer text of the two fields", "b": "short"}]
    found = write(f"faiss:{tmp_path}/a.faiss", points([1], fields), spec=spec)
    assert found.provenance == provenance
    assert (found.text_field, found.payload_fields) == ("b", ("a", "b"))


def test_leaving_without_finish_leaves_nothing(tmp_path: Path) -> None:
    with open_sink(f"faiss:{tmp_path}/a.faiss", PLAIN) as sink:
        sink.write(points([1, 2], [{}, {}]))
        assert not (tmp_path / "a.faiss").exists()
    sink.abort()
    assert names(tmp_path) == set()


KILLED = """
import os, signal, sys
import numpy as np
from vecmigrate import open_sink
from vecmigrate.connector import Metric, TargetSpec, VectorBatch

spec = TargetSpec(dimension=4, metric=Metric.EUCLID)
sink = open_sink("faiss:" + sys.argv[1], spec)
sink.write(VectorBatch(np.arange(9), np.ones((9, 4), np.float32), [{"old": True}] * 9))
if sys.argv[2] == "publishing":
    # Dies when the index is about to get its name, all else having its own.
    link = os.link
    def until_the_index(made, name):
        if str(name) == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        link(made, name)
    os.link = until_the_index
    sink.finish()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["writing", "publishing"])
def test_a_killed_run_leaves_nothing_at_the_name_and_can_be_restarted(
    tmp_path: Path, moment: str
) -> None:
    target = tmp_path / "a.faiss"
    done = run_forked("-c", KILLED, str(target), moment)
    assert done.returncode == -9
    assert not target.exists()
    assert (tmp_path / "a.faiss.jsonl").exists() == (moment == "publishing")
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"faiss:{target}")
    with pytest.raises(TargetExistsError, match="unfinished"):
        open_sink(f"faiss:{target}", PLAIN)
    with open_sink(f"faiss:{target}", PLAIN, restart=True) as sink:
        sink.write(points([3, 4]))
        sink.finish()
    assert list(read(f"faiss:{target}")) == [3, 4]
    assert names(tmp_path) == {"a.faiss", "a.faiss.vecmigrate.json"}


def test_two_runs_cannot_write_at_once(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    with open_sink(uri, PLAIN) as sink:
        sink.write(points([1]))
        for restart in (False, True):
            with pytest.raises(LockedError):
                open_sink(uri, PLAIN, restart=restart)
        sink.write(points([2]))
        assert sink.finish().count == 2


def test_files_of_the_user_are_never_replaced(tmp_path: Path) -> None:
    for name in ("a.faiss", "a.faiss.jsonl", "a.faiss.vecmigrate.json"):
        (tmp_path / name).write_text("precious")
        for restart in (False, True):
            with pytest.raises(TargetExistsError, match=name):
                open_sink(f"faiss:{tmp_path}/a.faiss", PLAIN, restart=restart)
        assert (tmp_path / name).read_text() == "precious"
        assert names(tmp_path) == {name}
        (tmp_path / name).unlink()


def test_an_index_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with open_sink(f"faiss:{tmp_path}/a.faiss", PLAIN) as sink:
        sink.write(points([1], [{}]))
        (tmp_path / "a.faiss").write_text("precious")
        with pytest.raises(TargetExistsError):
            sink.finish()
    assert (tmp_path / "a.faiss").read_text() == "precious"
    assert names(tmp_path) == {"a.faiss"}


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_sink(f"faiss:{tmp_path}/none/a.faiss", PLAIN)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """A disk that is full after ``limit`` bytes of any one file."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("words", ["IDMap,Flat", "HNSW12,Flat", "IVF9,Flat"])
def test_a_full_disk_is_one_clear_error(tmp_path: Path, words: str) -> None:
    ids = sparse_ids() if "IDMap" in words else None
    with open_source(save(make_index(words, ids=ids), tmp_path / "old.faiss")) as reader:
        spec = TargetSpec.like(reader.describe())
        batch = next(iter(reader.batches(COUNT)))
    staged = batch.vectors.nbytes
    for limit in (staged // 2, staged + 500):
        with (
            file_size_limit(limit),
            pytest.raises(WriteError, match="too large"),
        ):
            write(f"faiss:{tmp_path}/new.faiss", batch, spec=spec)
        assert names(tmp_path) == {"old.faiss"}


def test_what_a_sink_cannot_hold_is_refused(tmp_path: Path) -> None:
    with open_sink(f"faiss:{tmp_path}/a.faiss", PLAIN) as sink:
        with pytest.raises(MismatchError, match="24 dimensions"):
            sink.write(points([1]).with_vectors(np.ones((1, NEW), np.float32)))
        with pytest.raises(MismatchError, match="payload of 7 is not JSON"):
            sink.write(points([7], [{"set": {1, 2}}]))
        with pytest.raises(MismatchError, match=r"id 1\.5"):
            sink.write(points([1.5]))
        sink.write(points([8], [{"fine": True}]))
        assert sink.finish().count == 1


def test_a_companion_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    write(uri, points([1]))
    companion = tmp_path / "a.faiss.vecmigrate.json"
    noted = json.loads(companion.read_text())
    for content, said in (
        ("{", "cannot be read"),
        (json.dumps({**noted, "format": 2}), "format 2"),
        (json.dumps({**noted, "dimension": 3}), "3 dimensions"),
    ):
        companion.write_text(content)
        with pytest.raises(InputError, match=said):
            open_source(uri)


def test_points_added_to_a_written_index_are_read(tmp_path: Path) -> None:
    uri = f"faiss:{tmp_path}/a.faiss"
    write(uri, points([1, 2], [{"n": 1}, {"n": 2}]))
    index = faiss.read_index(str(tmp_path / "a.faiss"))
    index.add_with_ids(vectors(1, 9), np.array([77]))
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    assert [(i, fields) for i, (_, fields) in read(uri).items()] == [
        (1, {"n": 1}),
        (2, {"n": 2}),
        (77, {}),
    ]
