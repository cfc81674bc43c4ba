"""Qdrant's own engine in a directory: settings, points of every kind, locks, kills, full disks."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from support.crash import (
    check_a_kill_changes_nothing,
    contents,
    is_unfinished,
    make_source,
    make_translator,
    place,
    start,
    step_through,
    stepper,
)
from support.forked import Forked, run_forked
from support.qdrant.cases import CASES, FEW, Case
from support.qdrant.migrating import Reversal, compare, make, records
from support.qdrant.places import open_place
from support.small_disk import enlarge, small_disk

from vecmigrate import migrate, open_sink, open_source, open_updater, resume_sink
from vecmigrate.connector import (
    CollectionDescription,
    InputError,
    Metric,
    MismatchError,
    PointId,
    Provenance,
    RefusedError,
    TargetExistsError,
    TargetSpec,
    UsageError,
    VectorBatch,
    WriteError,
    id_array,
)
from vecmigrate.connector.registry import find_switcher
from vecmigrate.errors import ExitCode
from vecmigrate.verification import verify

SPEC = TargetSpec(dimension=4, metric=Metric.DOT)
MADE = Provenance(
    vecmigrate_version="0", source="faiss:old", translator_sha256="ab", created_at="2026-01-01"
)
SETTINGS: dict[str, Any] = {
    "vector": "text",
    "vector_params": {
        "hnsw_config": {"m": 24},
        "quantization_config": {"product": {"compression": "x8"}},
        "on_disk": True,
        "datatype": "float16",
    },
    "other_vectors": {
        "tokens": {
            "size": 3,
            "distance": "Cosine",
            "multivector_config": {"comparator": "max_sim"},
        }
    },
    "sparse_vectors": {"words": {"modifier": "idf", "index": {"full_scan_threshold": 7}}},
    "hnsw_config": {"m": 8, "ef_construct": 50, "full_scan_threshold": 1000, "payload_m": 4},
    "optimizers_config": {"indexing_threshold": 10, "default_segment_number": 1},
    "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
    "on_disk_payload": True,
    "metadata": {"owner": "search team"},
    "payload_schema": {
        "kind": {"data_type": "keyword"},
        "tenant": {
            "data_type": "keyword",
            "params": {"type": "keyword", "is_tenant": True, "on_disk": True},
        },
        "year": {
            "data_type": "integer",
            "params": {"type": "integer", "lookup": True, "range": False},
        },
        "said": {
            "data_type": "text",
            "params": {
                "type": "text",
                "tokenizer": "word",
                "min_token_len": 2,
                "lowercase": True,
                "stopwords": {"languages": ["english"], "custom": ["hm"]},
                "stemmer": {"type": "snowball", "language": "english"},
            },
        },
    },
}
NOT_KEPT = {
    "strict_mode_config": {"enabled": True, "max_query_limit": 10},
    "replication_factor": 2,
    "shard_number": 1,
}


def write(
    uri: str, ids: list[PointId], spec: TargetSpec = SPEC, **more: Any
) -> CollectionDescription:
    with open_sink(uri, spec) as sink:
        sink.write(VectorBatch(id_array(ids), vectors(len(ids), spec.dimension), **more))
        return sink.finish()


def vectors(count: int, dimension: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)


def test_settings_and_payload_indexes_are_kept_and_the_rest_is_told(tmp_path: Path) -> None:
    uri = f"qdrant-edge:{tmp_path}/new"
    spec = TargetSpec(
        dimension=4, metric=Metric.DOT, store="qdrant", settings={**SETTINGS, **NOT_KEPT}
    )
    with open_sink(uri, spec) as sink:
        made = sink.finish()
    assert [note for note in made.notes if "strict_mode_config, replication_factor" in note]
    with open_source(uri) as source:
        found = source.describe()
    for name in (
        "vector",
        "vector_params",
        "other_vectors",
        "sparse_vectors",
        "quantization_config",
        "metadata",
    ):
        assert found.settings[name] == SETTINGS[name], name
    for name in ("hnsw_config", "optimizers_config"):
        kept = found.settings[name]
        assert isinstance(kept, dict)
        assert {**kept, **SETTINGS[name]} == kept, name
    assert found.settings["payload_schema"] == SETTINGS["payload_schema"]
    # What it tells makes a collection like it.
    again = TargetSpec.like(found)
    with open_sink(f"qdrant-edge:{tmp_path}/again", again) as sink:
        sink.finish()
    with open_source(f"qdrant-edge:{tmp_path}/again") as source:
        assert source.describe().settings == found.settings


def test_the_index_and_the_quantisation_are_real(tmp_path: Path) -> None:
    settings = {**SETTINGS, "other_vectors": {}, "sparse_vectors": {}}
    spec = TargetSpec(dimension=64, metric=Metric.DOT, store="qdrant", settings=settings)
    uri = f"qdrant-edge:{tmp_path}/new"
    made = write(uri, list(range(3000)), spec)
    assert made.index_type == "HNSW(m=24, ef_construct=50), product quantization"
    shard = qdrant_edge.EdgeShard.load(str(tmp_path / "new"))
    assert shard.info().indexed_vectors_count == 3000
    shard.close()
    assert list((tmp_path / "new").glob("segments/*/vector_index-text/graph.bin"))
    assert list((tmp_path / "new").glob("segments/*/vector_storage-text/quantized*"))
    with open_source(uri) as source:
        queries = vectors(3000, 64)[:20]
        found = source.search(queries, 1)
        assert found is not None
        assert sum(ids.tolist() == [n] for n, ids in enumerate(found)) > 10
        assert source.search_parameter() is not None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.feature.replace(" ", "-"))
def test_every_feature_of_a_collection_arrives(case: Case, tmp_path: Path) -> None:
    """To the directory and back by a map that is its own inverse: all is there again."""
    new = f"qdrant-edge:{tmp_path}/new"
    with open_place("rest" if "rest" in case.places else "grpc", tmp_path) as served:
        old, back = served.uri("old", case.option), served.uri("back", case.option)
        make(served, case, "old", FEW)
        if case.shard_keys:
            with pytest.raises((UsageError, MismatchError)):
                migrate(old, new, Reversal())
            return
        assert migrate(old, new, Reversal()).written == FEW
        migrate(f"{new}?{case.option}".rstrip("?"), back, Reversal())
        with served.client() as client:
            before, after = records(client, "old"), records(client, "back")
            assert list(after) == list(before)
            for point, record in before.items():
                compare(record, after[point], case, back=True)
            ours, theirs = client.get_collection("old"), client.get_collection("back")
            assert theirs.payload_schema.keys() == ours.payload_schema.keys()
            assert theirs.config.params.sparse_vectors == ours.config.params.sparse_vectors


def test_what_the_engine_would_change_without_a_word_is_refused(tmp_path: Path) -> None:
    with open_sink(f"qdrant-edge:{tmp_path}/new", SPEC) as sink:
        for number in (2**64, -(2**63) - 1):
            for payload in ({"n": number}, {"deep": [{"n": [number]}]}):
                with pytest.raises(RefusedError):
                    sink.write(VectorBatch(id_array([1]), vectors(1), [payload]))
        for payload in ({"n": float("nan")}, {"n": object()}):
            with pytest.raises(RefusedError):
                sink.write(VectorBatch(id_array([1]), vectors(1), [payload]))
        most = {"n": 2**64 - 1, "m": -(2**63)}
        sink.write(VectorBatch(id_array([1]), vectors(1), [most]))
        sink.finish()
    with open_source(f"qdrant-edge:{tmp_path}/new") as source:
        assert source.fetch([1]).payloads == [most]


def test_a_payloads_doubles_are_exact_to_two_units_in_the_last_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = np.frombuffer(rng.bytes(8 * 20_000), np.float64)
    drawn = np.concatenate([drawn[np.isfinite(drawn)], rng.random(5000), 1 / np.arange(1, 5000)])
    uri, ids = f"qdrant-edge:{tmp_path}/new", list(range(len(drawn)))
    write(uri, list(ids), payloads=[{"x": x} for x in drawn.tolist()])
    with open_source(uri) as source:
        read = [p["x"] for batch in source.batches(1000) for p in batch.each_payload()]
    apart = np.abs(np.array(read).view(np.int64) - drawn.view(np.int64))
    assert apart.max() <= 2


def test_an_interrupted_making_of_a_directory_is_begun_again(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"provenance": MADE})
    uri, directory = f"qdrant-edge:{tmp_path}/new", tmp_path / "new"
    directory.mkdir()
    (directory / "vecmigrate.json.new").write_text("{")
    with open_sink(uri, spec) as sink:
        sink.suspend()
    shutil.rmtree(directory / "segments")
    with open_sink(uri, spec) as sink:
        sink.suspend()
    (directory / "edge_config.json").write_text("{ no JSON")
    with pytest.raises(TargetExistsError):
        open_sink(uri, SPEC)
    assert open_sink(uri, SPEC, restart=True).finish().count == 0


KILLED_AFTER_UPDATES = """
import os, sys
import qdrant_edge
shard, update = qdrant_edge.EdgeShard.load(sys.argv[1]), qdrant_edge.UpdateOperation
new = [qdrant_edge.Point(i, [9.0] * 4, {"new": True}) for i in range(0, 40, 2)]
shard.update(update.upsert_points(new))
shard.update(update.delete_points(list(range(1, 40, 2))))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("broken_off", [False, True])
def test_the_application_can_change_every_point_of_a_collection_that_was_filled(
    tmp_path: Path, broken_off: bool
) -> None:
    uri, spec = f"qdrant-edge:{tmp_path}/new", SPEC.model_copy(update={"provenance": MADE})
    with open_sink(uri, spec) as sink:
        for i in range(40):
            sink.write(VectorBatch(id_array([i]), vectors(1)))
        if broken_off:
            token = sink.checkpoint()
            assert token is not None
            sink.suspend()
            config = json.loads((tmp_path / "new" / "edge_config.json").read_text())
            del config["wal_enabled"]
            (tmp_path / "new" / "edge_config.json").write_text(json.dumps(config))
            resume_sink(uri, spec, token).finish()
        else:
            sink.finish()
    ended = run_forked("-c", KILLED_AFTER_UPDATES, str(tmp_path / "new"))
    assert ended.returncode == -signal.SIGKILL
    with open_source(uri) as source:
        (found,) = source.batches(100)
    assert found.ids.tolist() == list(range(0, 40, 2))
    assert (found.vectors == 9).all()
    assert found.payloads == [{"new": True}] * 20


def test_what_is_no_collection_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("no directory")
    for name in ("absent", "mine", "file"):
        with pytest.raises(InputError, match=name):
            open_source(f"qdrant-edge:{tmp_path}/{name}")
    with pytest.raises(TargetExistsError, match="not empty"):
        open_sink(f"qdrant-edge:{tmp_path}/mine", SPEC, restart=True)
    with pytest.raises(WriteError):
        open_sink(f"qdrant-edge:{tmp_path}/file", SPEC)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    for uri in ("qdrant-edge://host/name", "qdrant-edge+https:x", "qdrant-edge:x?in_place=true"):
        with pytest.raises(UsageError):
            open_source(uri)
    assert find_switcher("qdrant-edge:x") is None


def test_a_finished_collection_and_somebody_elses_are_never_replaced(tmp_path: Path) -> None:
    write(f"qdrant-edge:{tmp_path}/new", [1, 2])
    params = qdrant_edge.EdgeVectorParams(size=4, distance=qdrant_edge.Distance.Dot)
    (tmp_path / "theirs").mkdir()
    shard = qdrant_edge.EdgeShard.create(
        str(tmp_path / "theirs"), qdrant_edge.EdgeConfig(vectors=params, wal_enabled=False)
    )
    shard.update(qdrant_edge.UpdateOperation.upsert_points([qdrant_edge.Point(7, [1.0] * 4)]))
    shard.close()
    for name, count in (("new", 2), ("theirs", 1)):
        with pytest.raises(TargetExistsError):
            open_sink(f"qdrant-edge:{tmp_path}/{name}", SPEC, restart=True)
        with open_source(f"qdrant-edge:{tmp_path}/{name}") as source:
            assert source.describe().count == count


def test_one_process_alone_has_a_directory(tmp_path: Path) -> None:
    uri = f"qdrant-edge:{tmp_path}/new"
    write(uri, [1, 2])
    code = (
        "import sys; from vecmigrate import open_source\n"
        f"source = open_source({uri!r})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    engine = (
        "import sys, qdrant_edge\n"
        f"shard = qdrant_edge.EdgeShard.load({str(tmp_path / 'new')!r})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    for held in (code, engine):
        with Forked("-c", held) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InputError, match="in use"):
                open_source(uri)
            with pytest.raises(WriteError, match="in use"):
                open_sink(uri, SPEC, restart=True)
            with pytest.raises(WriteError, match="in use"):
                open_updater(uri, MADE)
            holder.communicate(timeout=60)
    with open_source(uri) as source, open_source(f"qdrant-edge:{tmp_path}/./new") as same:
        assert source.describe().count == same.describe().count == 2


WITHOUT_THE_EXTRA = """
import sys
sys.modules["qdrant_edge"] = None
from vecmigrate.cli import main
sys.argv[1:] = ["inspect", sys.argv[1]]
main()
"""


@pytest.mark.parametrize("scheme", ["qdrant-edge", "qdrant-snapshot"])
def test_a_missing_package_is_told_with_the_extra(scheme: str, tmp_path: Path) -> None:
    # In an interpreter of its own: modules that are loaded anew are others than those loaded.
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA, f"{scheme}:{tmp_path}/new"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.MISSING_DEPENDENCY, ended.stderr
    assert "vecmigrate[edge]" in ended.stderr


def test_points_are_updated_and_deleted_in_place(tmp_path: Path) -> None:
    uri = f"qdrant-edge:{tmp_path}/new"
    ids: list[PointId] = [1, 2, str(uuid.UUID(int=3))]
    write(uri, ids, SPEC.model_copy(update={"provenance": MADE}), payloads=[{"n": 1}] * 3)
    updater = open_updater(uri, MADE.model_copy(update={"updated_at": "2026-02-02"}))
    changed = VectorBatch(id_array([2, 4]), vectors(2), [{"n": 2}, {}])
    updater.upsert(changed)
    updater.delete(id_array([1, 99]))
    assert updater.flush()
    found = updater.finish()
    assert found.count == 3
    assert found.provenance is not None
    assert found.provenance.updated_at == "2026-02-02"
    with open_source(uri) as source:
        assert [i for batch in source.ids(2) for i in batch.tolist()] == [2, 4, ids[2]]
        read = source.fetch([4, 2])
        assert read.payloads == [{}, {"n": 2}]
        assert np.array_equal(read.vectors, changed.vectors[::-1])


def test_a_migration_that_is_killed_continues(tmp_path: Path) -> None:
    whole, killed = place("qdrant-edge", tmp_path, "whole"), place("qdrant-edge", tmp_path, "k")
    source = check_a_kill_changes_nothing(
        tmp_path, whole, killed, kills=4, points=2000, seed=7, batch=20
    )
    found = verify(source, killed, tmp_path / "translator")
    assert found.passed, found.checks


def test_a_migration_is_killed_before_some_of_its_steps(tmp_path: Path) -> None:
    with stepper() as killer:
        for ended in step_through(
            "faiss", "qdrant-edge", tmp_path, killer, random.Random(0), every=180
        ):
            assert ended.codes[0] == -signal.SIGKILL
            assert ended.same, ended


def test_a_full_disk_ends_the_run_which_then_continues(tmp_path: Path) -> None:
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 60_000)
    with small_disk(tmp_path, "132m") as disk:
        target = place("qdrant-edge", disk, "new")
        command = start(source, target, tmp_path / "translator", tmp_path / "state.sqlite", 1000)
        out, err = command.communicate()
        assert command.returncode == 9, out + err
        assert is_unfinished(target)
        enlarge(disk, "1g")
        result = migrate(
            source, target, tmp_path / "translator", state=tmp_path / "state.sqlite",
            batch_size=1000,
        )  # fmt: skip
        assert 0 < result.continued_after < 60_000
        assert contents(target) == contents(source_translated(source, tmp_path))


def source_translated(source: str, folder: Path) -> str:
    whole = place("qdrant-edge", folder, "whole")
    migrate(source, whole, folder / "translator", batch_size=1000)
    return whole
