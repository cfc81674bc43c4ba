"""A field tells what changed; what a field does not tell is found by an overlap or all at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.corpus import unit

from vecmigrate import Procrustes, migrate, open_sink, open_updater, save_translator
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch
from vecmigrate.errors import UsageError
from vecmigrate.state.file import open_records
from vecmigrate.sync import SyncResult, status_of, sync
from vecmigrate.verification import VerifyOptions, verify

N, OLD, NEW = 200, 8, 12
ROWS = unit(np.random.default_rng(2).standard_normal((2 * N, OLD)))
ROTATION = np.linalg.qr(np.random.default_rng(3).standard_normal((NEW, NEW)))[0][:OLD]
MADE = Provenance(vecmigrate_version="0", source="faiss:none", created_at="2026-01-01")
STORES = ["faiss", "parquet", "lancedb", "qdrant"]
MINUTE = 60.0
DAY = 24 * 60 * MINUTE


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def millis(seconds: float) -> int:
    return int(seconds * 1000)


@dataclass
class Job:
    """A migrated collection each of whose points tells when it changed."""

    folder: Path
    store: str
    now: float
    spell: Any = iso

    @property
    def source(self) -> str:
        name = {"lancedb": "db/old", "qdrant": "q/old"}.get(self.store, f"old.{self.store}")
        return f"{self.store}:{self.folder}/{name}"

    @property
    def target(self) -> str:
        return f"faiss:{self.folder}/new.faiss"

    @property
    def translator(self) -> Path:
        return self.folder / "t.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "state" / "state.sqlite"

    def points(self, ids: list[int], at: dict[int, float | None], row: int = 0) -> VectorBatch:
        """Return points as of some times; of a later row they have another vector."""
        payloads = [{"n": i} | ({} if at[i] is None else {"at": self.spell(at[i])}) for i in ids]
        rows = ROWS[[(i + row) % len(ROWS) for i in ids]]
        return VectorBatch(np.array(ids, np.int64), rows, payloads)

    def put(self, ids: list[int], at: float | None, row: int = 1) -> None:
        with self.editing() as source:
            source.upsert(self.points(ids, dict.fromkeys(ids, at), row))

    @contextmanager
    def editing(self) -> Iterator[Any]:
        with open_updater(self.source, MADE) as updater:
            yield updater
            updater.finish()

    def sync(self, **asked: Any) -> SyncResult:
        return sync(self.source, self.target, self.translator, self.state, changed_by="at", **asked)

    def check(self) -> None:
        found = verify(
            self.source, self.target, self.translator, VerifyOptions(full=True), state=self.state
        )
        assert found.passed, found.failures


def make(folder: Path, store: str = "parquet", spell: Any = iso) -> Job:
    """Make a job whose points changed from two days before to a minute before now."""
    job = Job(folder, store, time.time(), spell)
    save_translator(Procrustes().fit(ROWS[:60], ROWS[:60] @ ROTATION), job.translator)
    spec = TargetSpec(dimension=OLD, metric=Metric.COSINE, provenance=MADE)
    at = {i: job.now - MINUTE - (N - 1 - i) / N * 2 * DAY for i in range(N)}
    with open_sink(job.source, spec) as sink:
        sink.write(job.points(list(range(N)), at))
        sink.finish()
    migrate(job.source, job.target, job.translator, state=job.state)
    return job


@pytest.mark.parametrize("spell", [iso, float, millis])
@pytest.mark.parametrize("store", STORES)
def test_what_became_visible_late_is_found(store: str, spell: Any, tmp_path: Path) -> None:
    job = make(tmp_path, store, spell)
    first = job.sync()
    assert (first.wrote, first.found_by.full is not None) == (0, True)
    assert first.found_by.not_compared == 0
    job.put([7], job.now - 5 * MINUTE)
    job.put([8], job.now - 60 * MINUTE)
    found = job.sync()
    assert (found.changed, found.found_by.full) == (1, None)
    assert N - 10 < found.found_by.not_compared < N
    assert job.sync(overlap="2h").changed == 1
    job.check()


def test_of_so_many_runs_one_compares_all(tmp_path: Path) -> None:
    job = make(tmp_path)
    fulls = [job.sync(full_every=3).found_by.full is not None for _ in range(7)]
    assert fulls == [True, False, False] * 2 + [True]
    job.put([8], job.now - 60 * MINUTE)
    changed = [job.sync(full_every=3).changed for _ in range(3)]
    assert changed == [0, 0, 1]
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_a_restored_backup_is_compared_at_once(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.sync()
    place = Path(job.source.partition(":")[2])
    root = place.parent if store in ("lancedb", "qdrant") else place
    kept = tmp_path / "backup"
    beside = sorted(tmp_path.glob("old.*")) if store == "faiss" else [root]
    kept.mkdir()
    for each in beside:
        copy = shutil.copytree if each.is_dir() else shutil.copy2
        copy(each, kept / each.name)
    job.put(list(range(20)), job.now - MINUTE + 10)
    assert job.sync().changed == 20
    for each in beside:
        shutil.rmtree(each) if each.is_dir() else each.unlink()
        (kept / each.name).rename(each)
    restored = job.sync()
    assert (restored.changed, restored.found_by.full is not None) == (20, True)
    assert job.sync().found_by.full is None
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_points_that_lost_the_field_are_compared(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.sync()
    job.put([3, 4], None)
    found = job.sync()
    assert (found.changed, found.found_by.full) == (2, None)
    assert job.sync().wrote == 0
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_a_time_in_the_future_hides_nothing(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.put([3], job.now + 900 * DAY)
    job.sync()
    job.put([4], time.time())
    found = job.sync()
    assert (found.changed, found.found_by.full) == (1, None)
    job.check()


def test_versions_are_all_compared_until_a_run_is_as_old_as_the_overlap(tmp_path: Path) -> None:
    job = make(tmp_path, spell=lambda seconds: int(seconds) % 1_000_000)
    assert job.sync().found_by.full
    job.put([8], 5)
    found = job.sync()
    assert (found.changed, found.found_by.full is not None) == (1, True)
    assert job.sync(overlap="0").found_by.full is None


def test_status_tells_how_changes_were_found(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.sync()
    job.sync()
    with open_records(job.state) as records:
        last = status_of(job.target, job.state, records).last_sync
    assert last is not None
    assert last["found_by"]["way"] == "field"
    assert last["found_by"]["not_compared"] > 0


def test_an_overlap_is_a_duration(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sync("a:b", "a:b", tmp_path, tmp_path / "s", overlap="soon")
