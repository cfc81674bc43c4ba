"""Migrated collections that a test changes at both sides, and syncs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.corpus import unit
from support.crash import place
from vecmigrate import (
    KernelRidge,
    Procrustes,
    migrate,
    open_sink,
    open_source,
    open_updater,
    save_translator,
)
from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy, save_anchors
from vecmigrate.connector import (
    ORIGIN_FIELD,
    EncoderIdentity,
    Metric,
    Provenance,
    TargetSpec,
    VectorBatch,
)
from vecmigrate.state.file import open_records
from vecmigrate.sync import Status, SyncResult, status_of, sync

N, OLD, NEW = 300, 12, 16
MADE = Provenance(vecmigrate_version="0", source="faiss:none", created_at="2026-01-01")
IDENTITY = EncoderIdentity(name="new-model", dimension=NEW, normalized=True)


@dataclass(frozen=True)
class Job:
    """A migrated collection, and both encoders' vectors of all points there may ever be."""

    folder: Path
    source: str
    target: str
    old: np.ndarray
    new: np.ndarray

    @property
    def translator(self) -> Path:
        return self.folder / "t.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "state" / "state.sqlite"

    @property
    def encoder(self) -> str:
        return f"vectors:{self.folder}/new.npy?name=new-model"

    def run(self, **settings: Any) -> SyncResult:
        return sync(self.source, self.target, self.translator, self.state, **settings)

    def status(self, source: str | None = None) -> Status:
        with open_records(self.state) as records:
            return status_of(self.target, self.state, records, source)

    def forget(self) -> None:
        shutil.rmtree(self.state.parent / "ledgers")


def payload(i: int, **more: Any) -> dict[str, Any]:
    return {"text": f"text number {i}", "at": 1000 + i, "n": i, **more}


def points(vectors: np.ndarray, ids: list[int], **more: Any) -> VectorBatch:
    return VectorBatch(
        np.array(ids, np.int64), np.ascontiguousarray(vectors[ids]),
        [payload(i, **more) for i in ids],
    )  # fmt: skip


def draw_spaces() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all points there may ever be, in the old space and in the new one."""
    rng = np.random.default_rng(0)
    old = unit(rng.standard_normal((2 * N, OLD)))
    rotation = np.linalg.qr(rng.standard_normal((NEW, NEW)))[0][:OLD]
    # What a map cannot know, so that a true vector is worth something.
    return old, unit(old @ rotation + 0.25 * rng.standard_normal((2 * N, NEW)))


def make(
    folder: Path, old_store: str = "faiss", new_store: str = "faiss", *, anchors: bool = False,
    kernel: bool = False,
) -> Job:  # fmt: skip
    old, new = draw_spaces()
    np.save(folder / "new.npy", new)
    job = Job(folder, place(old_store, folder, "old"), place(new_store, folder, "new"), old, new)
    fitted = (KernelRidge() if kernel else Procrustes()).fit(old[:60], new[:60])
    save_translator(fitted, job.translator, target_encoder=IDENTITY, mixing_scale=0.9)
    spec = TargetSpec(dimension=OLD, metric=Metric.COSINE, text_field="text", provenance=MADE)
    with open_sink(job.source, spec) as sink:
        sink.write(points(old, list(range(N))))
        sink.finish()
    kept = folder / "a.parquet" if anchors else None
    if kept is not None:
        card = AnchorCard(
            source=job.source, population=N, seed=0, strategy=Strategy.UNIFORM,
            target_encoder=IDENTITY, metric=Metric.COSINE,
        )  # fmt: skip
        texts = [f"text number {i}" for i in range(60)]
        save_anchors(AnchorSet(np.arange(60), old[:60], new[:60], card, texts), kept)
    migrate(job.source, job.target, job.translator, keep_anchors=kept, state=job.state)
    return job


@contextmanager
def editing(uri: str) -> Iterator[Any]:
    with open_source(uri) as source:
        found = source.describe().provenance
    with open_updater(uri, found or MADE) as updater:
        yield updater
        updater.finish()


def contents(uri: str) -> dict[Any, tuple[np.ndarray, dict[str, Any]]]:
    with open_source(uri) as source:
        return {
            i: (vector.copy(), dict(fields))
            for batch in source.batches(1000)
            for i, vector, fields in zip(
                batch.ids.tolist(), batch.vectors, batch.payloads or [], strict=True
            )
        }


def same(one: str, other: str) -> bool:
    first, second = contents(one), contents(other)
    return first.keys() == second.keys() and all(
        np.allclose(first[i][0], second[i][0], atol=1e-5)
        and {**first[i][1], ORIGIN_FIELD: 0} == {**second[i][1], ORIGIN_FIELD: 0}
        for i in first
    )


def change_the_source(job: Job) -> None:
    """Five arrive, one changes its vector, two their payload, three vanish."""
    changed = points(job.old, [10])
    with editing(job.source) as source:
        source.upsert(points(job.old, list(range(N, N + 5))))
        source.upsert(changed.with_vectors(np.ascontiguousarray(job.old[[500]])))
        source.upsert(points(job.old, [20, 21], more={"nested": [1, None]}))
        source.delete(np.array([30, 31, 299]))
