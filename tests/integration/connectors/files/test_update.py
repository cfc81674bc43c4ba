"""Parquet files that vecmigrate wrote follow their source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.crash import contents

from vecmigrate import Procrustes, migrate, open_sink, open_source, open_updater, save_translator
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch, id_array
from vecmigrate.errors import InputError, LockedError, MismatchError, UsageError
from vecmigrate.sync import SyncOptions, sync

COUNT, DIM = 2500, 16
MADE = Provenance(vecmigrate_version="0", source="faiss:x", created_at="2026-01-01")
PLACES = ["parquet:{}/new.parquet", "parquet:{}/new"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 480 rows in groups of 30."""
    for module in ("sink", "updater"):
        monkeypatch.setattr(f"vecmigrate_files.parquet.{module}.group_rows", lambda dimension: 30)


def unit_vectors(count: int = COUNT) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_target(folder: Path, place: str) -> str:
    uri, vectors = place.format(folder), unit_vectors()
    with open_sink(uri, TargetSpec(dimension=DIM, metric=Metric.DOT)) as sink:
        for start in range(0, COUNT, 100):
            rows = np.arange(start, start + 100)
            sink.write(VectorBatch(rows, vectors[rows], [{"n": int(n)} for n in rows]))
        sink.finish()
    return uri


def test_files_follow_their_source(tmp_path: Path) -> None:
    def save(table: pa.Table) -> None:
        pq.write_table(table, tmp_path / "old.parquet")

    vectors = unit_vectors(COUNT + 3)
    table = pa.table(
        {
            "id": [f"d{n}" for n in range(COUNT + 3)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
            "text": [f"the text of {n}" for n in range(COUNT + 3)],
            "kind": pa.array([f"k{n % 3}" for n in range(COUNT + 3)]).dictionary_encode(),
        }
    )
    old, new = f"parquet:{tmp_path}/old.parquet", f"parquet:{tmp_path}/new"
    translator, state = tmp_path / "t", tmp_path / "s" / "state"
    save_translator(Procrustes(center=False, scale=False).fit(np.eye(DIM), np.eye(DIM)), translator)
    save(table.slice(0, COUNT))
    migrate(old, new, translator, state=state, batch_size=400)
    assert sync(old, new, translator, state, SyncOptions()).wrote == 0
    texts = [t if n != 7 else "another text" for n, t in enumerate(table["text"].to_pylist())]
    changed = table.set_column(2, "text", pa.array(texts))
    save(pa.concat_tables([changed.slice(0, 4), changed.slice(6)]))
    done = sync(old, new, translator, state, SyncOptions())
    assert (done.arrived, done.changed, done.vanished) == (3, 1, 2)
    expected, found = contents(old), contents(new)
    assert {i: p for i, (_, p) in found.items()} == {i: p for i, (_, p) in expected.items()}
    for point, (vector, _) in expected.items():
        np.testing.assert_allclose(
            np.frombuffer(found[point][0], np.float32), np.frombuffer(vector, np.float32), atol=1e-6
        )
    with open_source(new) as source:
        provenance = source.describe().provenance
        assert provenance is not None
        assert provenance.updated_at is not None
        assert all(file.schema.equals(source.files[0].schema) for file in source.files)
    assert sync(old, new, translator, state, SyncOptions()).wrote == 0
    assert not list(tmp_path.glob(".new*"))


@pytest.mark.parametrize("place", PLACES)
def test_the_last_word_counts_and_other_rows_stay(tmp_path: Path, place: str) -> None:
    uri = make_target(tmp_path, place)
    before = contents(uri)
    with open_updater(uri, MADE) as updater:
        twice = VectorBatch(np.array([2, 9999, 2]), unit_vectors(3), [{"n": n} for n in (1, 2, 3)])
        updater.upsert(twice)
        updater.delete(np.array([1200, 9998]))
        updater.delete(np.array([1201]))
        updater.upsert(VectorBatch(np.array([1201]), unit_vectors(1), [{"n": "back"}]))
        updater.upsert(VectorBatch(np.array([8888]), unit_vectors(1)))
        updater.delete(np.array([8888]))
        updater.delete(id_array(["of another kind"]))
        assert updater.finish().count == COUNT
    after = contents(uri)
    assert json.loads(after[2][1]) == {"n": 3}
    assert json.loads(after[9999][1]) == {"n": 2}
    assert json.loads(after[1201][1]) == {"n": "back"}
    assert before.keys() - after.keys() == {1200}
    same = before.keys() - {2, 1200, 1201}
    assert {i: after[i] for i in same} == {i: before[i] for i in same}


def test_only_the_files_of_changed_points_are_written_anew(tmp_path: Path) -> None:
    uri = make_target(tmp_path, "parquet:{}/new")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "new").iterdir()}
    with open_updater(uri, MADE) as updater:
        updater.delete(np.array([COUNT - 1]))
        updater.finish()
    after = {path.name: path.stat().st_ino for path in (tmp_path / "new").iterdir()}
    names = sorted(before)
    assert len(names) == 5
    assert [n for n in names if before[n] != after[n]] == [names[0], names[-1]]


def test_a_reader_keeps_what_it_has_or_is_told(tmp_path: Path) -> None:
    uri = make_target(tmp_path, "parquet:{}/new")
    with open_source(uri) as reader:
        batches = reader.batches(50)
        next(batches)
        with open_updater(uri, MADE) as updater:
            updater.delete(np.arange(0, COUNT, 100))
            updater.finish()
        with pytest.raises(InputError, match="has changed since it was opened"):
            list(batches)


@pytest.mark.parametrize("place", PLACES)
def test_an_update_that_was_killed(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between any two files: each point is there once, as it was or as it is to be."""
    uri = make_target(tmp_path, place)
    changed, new = np.arange(0, COUNT, 50), np.arange(COUNT, COUNT + 30)
    later = MADE.model_copy(update={"updated_at": "2026-02-02"})

    def update() -> None:
        with open_updater(uri, later) as updater:
            rows = np.concatenate([changed, new])
            updater.upsert(VectorBatch(rows, -unit_vectors(len(rows)), [{"n": "new"}] * len(rows)))
            updater.delete(np.array([3, 1503]))
            updater.finish()

    real, left = Path.replace, [0]

    def replace(self: Path, target: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, target)

    for at in range(7 if place.endswith("new") else 2):
        left[0] = at
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            if at < (6 if place.endswith("new") else 1):
                with pytest.raises(KeyboardInterrupt):
                    update()
            else:
                update()
        found = contents(uri)
        assert set(range(COUNT)) - {3, 1503} <= found.keys() <= set(range(COUNT + 30))
        assert {json.loads(found[n][1])["n"] for n in range(1, 50) if n in found} <= set(range(50))
        with open_source(uri) as source:
            assert (source.describe().provenance == later) == (at > 0)
    assert found.keys() == set(range(COUNT + 30)) - {3, 1503}
    assert {found[int(n)][1] for n in [*changed, *new]} == {'{"n": "new"}'}
    assert not list(tmp_path.glob(".*"))


def test_what_an_update_would_damage_is_refused(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "vector": pa.array([[1.0] * DIM], pa.list_(pa.float32(), DIM))})
    pq.write_table(table, tmp_path / "users.parquet")
    with pytest.raises(MismatchError, match="not written by vecmigrate"):
        open_updater(f"parquet:{tmp_path}/users.parquet", MADE)
    uri = make_target(tmp_path, PLACES[0])
    with pytest.raises(MismatchError, match="other columns"):
        open_updater(f"{uri}?id=n", MADE)
    with open_updater(uri, MADE) as updater:
        with pytest.raises(LockedError):
            open_updater(uri, MADE)
        with pytest.raises(MismatchError, match="cannot hold the id a"):
            updater.upsert(VectorBatch(id_array(["a"]), unit_vectors(1)))
    ours = pq.read_table(tmp_path / "new.parquet")
    pq.write_table(ours.append_column("raw", pa.array([b"x"] * COUNT)), tmp_path / "new.parquet")
    with pytest.raises(MismatchError, match="raw"):
        open_updater(uri, MADE)
    np.save(tmp_path / "v.npy", unit_vectors())
    with pytest.raises(UsageError, match="npy cannot change a finished collection"):
        open_updater(f"npy:{tmp_path}/v.npy", MADE)
