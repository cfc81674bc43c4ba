"""Pairs of stores, what histories of them share, and what a collection holds."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from support.applications import (
    Application,
    EdgeDirectory,
    FaissFile,
    LanceTable,
    ParquetFile,
    Point,
    Points,
    QdrantCollection,
)
from support.corpus import unit
from support.crash import Stepper, stepper
from support.qdrant.places import Place, open_place
from vecmigrate import (
    Procrustes,
    open_source,
    save_translator,
)
from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy, save_anchors
from vecmigrate.connector import (
    ORIGIN_FIELD,
    EncoderIdentity,
    Metric,
    id_array,
)
from vecmigrate.points.checksums import same_payload

STORES = ["faiss", "parquet", "lancedb", "embedded", "edge", "rest", "grpc"]
PAIRS = [(old, new) for old in STORES for new in STORES]
SERVED = ("rest", "grpc")
QDRANT = ("embedded", "edge", *SERVED)
OLD, NEW, COUNT, ANCHORS = 4, 6, 24, 5
ROWS = unit(np.random.default_rng(0).standard_normal((60, OLD)))
TRUE = unit(np.random.default_rng(1).standard_normal((60, NEW)))
"""What the new encoder makes of the anchors' texts, and others of theirs."""
IDENTITY = EncoderIdentity(name="new-model", dimension=NEW, normalized=True)
OWN = unit(np.random.default_rng(4).standard_normal((COUNT, NEW)))
"""What the new encoder makes of any other text of a point."""
TOLERANCE = 1e-5
LAST_STEP = {"migrate": 500, "sync": 40}
"""A kill comes before a step of these; a run that takes fewer ends by itself."""

TYPED: list[dict[str, Any]] = [
    {}, {"n": 1}, {"n": 2, "x": 0.1}, {"x": 1 / 3}, {"n": -7, "x": 1e-12},
]  # fmt: skip
ANY: list[dict[str, Any]] = [
    *TYPED, {"n": "a word"}, {"deep": {"list": [1, None, "ü"], "x": 0.1}}, {"nil": None},
]  # fmt: skip


class Surroundings:
    """What histories share: servers, processes that kill others, a translator, anchors."""

    def __init__(self, folder: Path, stack: ExitStack, *, kills: bool) -> None:
        self._stack, self._kills = stack, kills
        self._places: dict[str, Place] = {}
        self._killers: dict[bool, Stepper] = {}
        self.folder = folder
        self.translator, self.anchors = folder / "t.safetensors", folder / "a.parquet"
        rng = np.random.default_rng(2)
        X = unit(rng.standard_normal((40, OLD)))
        Y = X @ np.linalg.qr(rng.standard_normal((NEW, NEW)))[0][:OLD]
        fitted = Procrustes().fit(X, Y)
        save_translator(fitted, self.translator, target_encoder=IDENTITY, mixing_scale=0.9)
        self.ids = {
            "integers": [3 * i + 1 + 2**40 * (i % 3) for i in range(COUNT)],
            "uuids": [str(uuid.UUID(int=2**64 * i + 1)) for i in range(COUNT)],
        }
        for kind, ids in self.ids.items():
            self._save_anchors(kind, ids[:ANCHORS])
            np.savez(folder / f"{kind}.npz", ids=np.array(ids), vectors=OWN)

    def anchor_file(self, kind: str) -> Path:
        return self.folder / f"{kind}.parquet"

    def encoder(self, kind: str) -> str:
        return f"vectors:{self.folder}/{kind}.npz?name={IDENTITY.name}"

    def place(self, kind: str) -> Place:
        """A loopback server, which all histories share."""
        if kind not in self._places:
            self._places[kind] = self._stack.enter_context(open_place(kind, self.folder))
        return self._places[kind]

    def killer(self, *, syncs: bool) -> Stepper | None:
        if self._kills and syncs not in self._killers:
            self._killers[syncs] = self._stack.enter_context(stepper(syncs=syncs))
        return self._killers.get(syncs)

    def _save_anchors(self, kind: str, ids: Sequence[Any]) -> None:
        card = AnchorCard(
            source="faiss:none", population=COUNT, seed=0, strategy=Strategy.UNIFORM,
            target_encoder=IDENTITY, metric=Metric.COSINE,
        )  # fmt: skip
        texts = [text_of(at, 0) for at in range(len(ids))]
        anchors = AnchorSet(id_array(ids), ROWS[: len(ids)], TRUE[: len(ids)], card, texts)
        save_anchors(anchors, self.anchor_file(kind))


@contextmanager
def surroundings(*, kills: bool) -> Iterator[Surroundings]:
    """Make them, and remove them at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield Surroundings(folder, stack, kills=kills)


def text_of(at: int, turn: int) -> str:
    return f"text {at} in turn {turn}"


def application(store: str, folder: Path, shared: Surroundings) -> Application:
    makers: dict[str, Callable[[Path], Application]] = {
        "faiss": FaissFile, "parquet": ParquetFile, "lancedb": LanceTable, "edge": EdgeDirectory,
    }  # fmt: skip
    if store in makers:
        return makers[store](folder)
    if store in SERVED:
        return QdrantCollection(shared.place(store))
    return QdrantCollection(embedded(folder))


def embedded(folder: Path) -> Place:
    with open_place("embedded", folder / "q") as place:
        return place


def target_at(store: str, folder: Path, shared: Surroundings) -> str:
    if store in SERVED or store == "embedded":
        place = shared.place(store) if store in SERVED else embedded(folder)
        return place.uri(place.name("target"))
    return {
        "faiss": f"faiss:{folder}/new.faiss",
        "parquet": f"parquet:{folder}/new",
        "lancedb": f"lancedb:{folder}/db/new",
        "edge": f"qdrant-edge:{folder}/new-edge",
    }[store]


def held(uri: str) -> Points:
    """All points of a collection, as vecmigrate reads them."""
    found: Points = {}
    with open_source(uri) as source:
        for batch in source.whole_batches(1000):
            rows = iter(batch.vectors)
            for i, count, payload in zip(
                batch.ids.tolist(), batch.each_count(), batch.each_payload(), strict=True
            ):
                vector = tuple(next(rows).tolist()) if count else None
                found[i] = Point(vector, dict(payload))
    return found


def check_same(found: Points, expected: Points, ulps: int) -> None:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for point_id, point in expected.items():
        here, there = point.payload, found[point_id].payload
        assert here.get(ORIGIN_FIELD) == there.get(ORIGIN_FIELD), (point_id, here, there)
        assert same_payload(dict(here), dict(there), ulps), (point_id, here, there)
        one, other = point.vector, found[point_id].vector
        if one is None or other is None:
            assert one is other, point_id
        else:
            away = np.linalg.norm(np.array(one) - np.array(other))
            assert away <= TOLERANCE * np.linalg.norm(one), (point_id, one, other)
