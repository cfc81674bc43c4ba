"""A moved collection with a person's point in it, and all that is made of it on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.live import IDENTITY, MADE, OLD, N, draw_spaces, editing
from vecmigrate import KernelRidge, migrate, open_sink, open_source, save_translator
from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy, save_anchors
from vecmigrate.connector import Metric, TargetSpec, VectorBatch
from vecmigrate.forget import Receipt, forget
from vecmigrate.sync import SyncResult, sync

ANCHORS = 60
GONE = [17, 142]
"""The first is an anchor."""


@dataclass(frozen=True)
class Moved:
    """A source, its target, and the files of the move, in one folder."""

    folder: Path
    source: str
    target: str
    old: np.ndarray
    new: np.ndarray

    @property
    def state(self) -> Path:
        return self.folder / "state" / "state.sqlite"

    @property
    def translator(self) -> Path:
        return self.folder / "t.safetensors"

    @property
    def anchors(self) -> Path:
        return self.folder / "a.parquet"

    def migrate(self, **options: Any) -> None:
        migrate(
            self.source, self.target, self.translator,
            keep_anchors=self.anchors, state=self.state, **options,
        )  # fmt: skip

    def sync(self, **options: Any) -> SyncResult:
        return sync(
            self.source, self.target, self.translator, self.state,
            keep_anchors=self.anchors, **options,
        )  # fmt: skip

    def forget(self, *ids: int, **options: Any) -> Receipt:
        return forget(ids or GONE, self.state, **{"folders": [self.folder], **options})

    def delete(self, *ids: int) -> None:
        """Delete points at the source."""
        with editing(self.source) as source:
            source.delete(np.array(ids or GONE))


def text(i: int) -> str:
    """A text that no other point has, nor anything else."""
    return f"unmistakable{i * 7919:08d}text" if i in GONE else f"text number {i}"


def payload(i: int) -> dict[str, Any]:
    return {"text": text(i), "n": i}


def make_source(source: str, vectors: np.ndarray) -> None:
    spec = TargetSpec(dimension=OLD, metric=Metric.COSINE, text_field="text", provenance=MADE)
    with open_sink(source, spec) as sink:
        sink.write(VectorBatch(np.arange(N), vectors[:N], [payload(i) for i in range(N)]))
        sink.finish()


def make(folder: Path, target: str, source: str | None = None) -> Moved:
    """Make a source, its anchors and translator; nothing is moved yet."""
    old, new = draw_spaces()
    moved = Moved(folder, source or f"faiss:{folder}/old.faiss", target, old, new)
    make_source(moved.source, old)
    fitted = KernelRidge().fit(old[:ANCHORS], new[:ANCHORS])
    save_translator(fitted, moved.translator, target_encoder=IDENTITY, mixing_scale=0.9)
    card = AnchorCard(
        source=moved.source, population=N, seed=0, strategy=Strategy.UNIFORM,
        target_encoder=IDENTITY, metric=Metric.COSINE,
    )  # fmt: skip
    texts = [text(i) for i in range(ANCHORS)]
    save_anchors(
        AnchorSet(np.arange(ANCHORS), old[:ANCHORS], new[:ANCHORS], card, texts), moved.anchors
    )
    return moved


def ids_of(uri: str) -> set[Any]:
    with open_source(uri) as source:
        return {i for ids in source.ids(1000) for i in ids.tolist()}


def files_with(folder: Path, *contents: bytes | str) -> list[str]:
    """Name the files below a folder that have one of these bytes, whatever kind of file."""
    sought = [each.encode() if isinstance(each, str) else each for each in contents]
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(each in path.read_bytes() for each in sought)
    )


def letter(run: str, i: int) -> str:
    """A dead letter as a migration writes it."""
    told = {"run": run, "id": i, "reason": "too odd", "payload": payload(i), "vector": [0.5]}
    return json.dumps(told) + "\n"
