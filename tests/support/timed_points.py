"""A migrated collection each of whose points tells when it changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from support.corpus import unit
from vecmigrate import Procrustes, migrate, open_sink, open_source, open_updater, save_translator
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch, files_stamp
from vecmigrate.sync import SyncResult, sync
from vecmigrate.verification import VerifyOptions, verify

N, OLD, NEW = 200, 8, 12
ROWS = unit(np.random.default_rng(2).standard_normal((2 * N, OLD)))
ROTATION = np.linalg.qr(np.random.default_rng(3).standard_normal((NEW, NEW)))[0][:OLD]
MADE = Provenance(vecmigrate_version="0", source="faiss:none", created_at="2026-01-01")
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
    def editing(self, uri: str | None = None) -> Iterator[Any]:
        """Edit the source, or another collection, which goes on saying who made it."""
        with open_source(uri or self.source) as opened:
            made = opened.describe().provenance
        assert made is not None
        with open_updater(uri or self.source, made) as updater:
            yield updater
            updater.finish()
        rest(self.folder)

    def sync(self, **asked: Any) -> SyncResult:
        how = {"changed_by": "at", **asked}
        return sync(self.source, self.target, self.translator, self.state, **how)

    def compare(self) -> SyncResult:
        """Compare all, as the first run by a field does whose source may have changed."""
        return self.sync(full_every=1)

    def check(self) -> None:
        found = verify(
            self.source, self.target, self.translator, VerifyOptions(full=True), state=self.state
        )
        assert found.passed, found.failures


def rest(folder: Path) -> None:
    """Wait until no file was written so lately that its time does not tell."""
    while files_stamp(path for path in folder.rglob("*") if path.is_file()) is None:
        time.sleep(0.01)


def make(folder: Path, store: str = "parquet", spell: Any = iso) -> Job:
    """Make a job whose points changed from two days before to a minute before now."""
    job = Job(folder, store, time.time(), spell)
    save_translator(Procrustes().fit(ROWS[:60], ROWS[:60] @ ROTATION), job.translator)
    spec = TargetSpec(dimension=OLD, metric=Metric.COSINE, provenance=MADE)
    at = {i: job.now - MINUTE - (N - 1 - i) / N * 2 * DAY for i in range(N)}
    with open_sink(job.source, spec) as sink:
        sink.write(job.points(list(range(N)), at))
        sink.finish()
    rest(folder)
    migrate(job.source, job.target, job.translator, state=job.state)
    return job
