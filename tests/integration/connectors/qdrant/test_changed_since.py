"""Asked for by an index of a payload field, the points that changed are those of a full reading."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.corpus import unit
from support.qdrant.places import SERVED, Place, open_place, params

from vecmigrate import Procrustes, migrate, open_source, save_translator
from vecmigrate.connector.addresses import followed_uri
from vecmigrate.errors import InputError
from vecmigrate.state.ledger import Ledger, ledger_path, open_ledger
from vecmigrate.state.scan import ChangedBy
from vecmigrate.sync import SyncOptions, sync
from vecmigrate.sync.changes import find_changes

COUNT, SIZE, FIELD = 60, 6, "at"
BY = ChangedBy(FIELD, overlap=0)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ROTATION = np.linalg.qr(np.random.default_rng(9).standard_normal((SIZE, SIZE)))[0]


def as_number(n: float) -> Any:
    return int(n)


def as_float(n: float) -> Any:
    return n + 0.1


def as_large(n: float) -> Any:
    return 2**53 + int(n)


def as_time(n: float) -> Any:
    moment = BEGIN + timedelta(seconds=n, microseconds=123_457)
    return moment.isoformat() if n % 2 else moment.replace(tzinfo=None).isoformat(sep=" ")


KINDS: dict[str, tuple[Any, Callable[[float], Any]]] = {
    "integer": (models.PayloadSchemaType.INTEGER, as_number),
    "large": (models.PayloadSchemaType.INTEGER, as_large),
    "float": (models.PayloadSchemaType.FLOAT, as_float),
    "datetime": (models.PayloadSchemaType.DATETIME, as_time),
}


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@dataclass
class Job:
    """A collection, and a target in step with it."""

    place: Place
    folder: Path
    name: str
    target: str
    spell: Callable[[float], Any]

    @property
    def source(self) -> str:
        return self.place.uri(self.name)

    @property
    def translator(self) -> Path:
        return self.folder / "t.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "state.sqlite"

    def put(self, ids: list[int], field: Callable[[int], Any], seed: int = 0) -> None:
        """Write points; those whose field is Ellipsis have none."""
        found = {i: field(i) for i in ids}
        points = [
            models.PointStruct(
                id=i,
                vector=unit(np.random.default_rng([seed, i]).standard_normal(SIZE)[None])[
                    0
                ].tolist(),
                payload={"n": i} | ({} if at is ... else {FIELD: at}),
            )
            for i, at in found.items()
        ]
        with self.place.client() as client:
            client.upsert(self.name, points, wait=True)

    def sync(self) -> Any:
        return sync(
            self.source,
            self.target,
            self.translator,
            self.state,
            SyncOptions(changed_by=FIELD, overlap="0"),
        )

    def planned(self) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """What a sync would do, and to which points."""
        copy = self.folder / "ledger.sqlite"
        shutil.copy(ledger_path(self.state, followed_uri(self.target)), copy)
        with (
            open_ledger(copy) as ledger,
            open_source(self.source) as source,
            open_source(self.target) as target,
        ):
            plan = find_changes(source, target, ledger, BY, 16)
            told = plan.model_dump(exclude={"scan"})
            return told, {table: _ids(ledger, table) for table in ("arriving", "changed", "gone")}

    def asks_the_index(self) -> bool:
        with open_ledger(ledger_path(self.state, followed_uri(self.target))) as ledger:
            since = ledger.fact("latest")
        with open_source(self.source) as source:
            return source.changed_since(FIELD, since["value"], 16) is not None


def _ids(ledger: Ledger, table: str) -> list[Any]:
    return sorted(i for ids in ledger.listed(table, 100) for i in ids.tolist())


def make(place: Place, folder: Path, kind: str) -> Job:
    schema, spell = KINDS[kind]
    job = Job(place, folder, place.name("old"), place.uri(place.name("new")), spell)
    with place.client() as client:
        client.create_collection(job.name, vectors_config=params(SIZE))
        client.create_payload_index(job.name, FIELD, field_schema=schema, wait=True)
    job.put(list(range(COUNT)), lambda i: ... if i % 10 == 9 else spell(i))
    rows = unit(np.random.default_rng(1).standard_normal((40, SIZE)))
    save_translator(Procrustes().fit(rows, rows @ ROTATION), job.translator)
    migrate(job.source, job.target, job.translator, state=job.state)
    assert job.sync().wrote == 0
    return job


def edit(job: Job, turn: int) -> None:
    """Change points in all ways, at times before, at and after the latest one that was seen."""
    rng, latest, last = np.random.default_rng(turn), 2 * COUNT * turn, 2 * COUNT * (turn + 1)
    ids = rng.permutation(COUNT).tolist()
    times = {i: job.spell(float(rng.integers(0, last))) for i in range(2 * COUNT)}
    job.put(ids[:8], lambda i: times[i], seed=10 + turn)
    job.put(ids[8:12], lambda _: job.spell(latest), seed=20 + turn)
    job.put(ids[12:14], lambda _: ..., seed=30 + turn)
    job.put(ids[14:16], lambda _: None, seed=40 + turn)
    job.put(ids[16:18], lambda _: job.spell(last), seed=50 + turn)
    job.put([COUNT + int(n) for n in rng.permutation(COUNT)[:6]], lambda i: times[i])
    job.put([3 * COUNT], lambda _: ...)
    with job.place.client() as client:
        client.delete(job.name, ids[20:25], wait=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_tells_what_a_full_reading_tells(place: Place, tmp_path: Path, kind: str) -> None:
    job = make(place, tmp_path, kind)
    for turn in range(3):
        edit(job, turn)
        assert job.asks_the_index()
        asked = job.planned()
        with place.client() as client:
            client.delete_payload_index(job.name, FIELD, wait=True)
        assert not job.asks_the_index()
        assert job.planned() == asked
        assert asked[1]["changed"]
        with place.client() as client:
            client.create_payload_index(job.name, FIELD, field_schema=KINDS[kind][0], wait=True)
        done = job.sync()
        assert done.changed >= 2
        assert job.planned()[1] == {"arriving": [], "changed": [], "gone": []}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", 0.5), ("integer", "2026-01-01"), ("datetime", 1e9), ("datetime", "20260101T0000")],
)
def test_values_that_the_index_does_not_know_have_all_read(
    place: Place, tmp_path: Path, kind: str, value: Any
) -> None:
    job = make(place, tmp_path, kind)
    job.put([3], lambda _: value, seed=1)
    assert not job.asks_the_index()
    job.put([3], lambda _: job.spell(3), seed=0)
    assert job.asks_the_index()


def test_a_value_that_is_no_time_is_refused_all_the_same(place: Place, tmp_path: Path) -> None:
    job = make(place, tmp_path, "datetime")
    job.put([3], lambda _: "yesterday", seed=1)
    with pytest.raises(InputError):
        job.sync()


def test_without_a_fitting_index_all_is_read(place: Place, tmp_path: Path) -> None:
    job = make(place, tmp_path, "integer")
    with open_source(job.source) as source:
        assert source.changed_since("n", 0, 16) is None
    with place.client() as client:
        lookup = models.IntegerIndexParams(
            type=models.IntegerIndexType.INTEGER, lookup=True, range=False
        )
        client.create_payload_index(job.name, "n", field_schema=lookup, wait=True)
        client.create_payload_index(job.name, "a.b", models.PayloadSchemaType.FLOAT, wait=True)
        client.create_payload_index(job.name, "k", models.PayloadSchemaType.KEYWORD, wait=True)
    with open_source(job.source) as source:
        for field in ("n", "a.b", "k"):
            assert source.changed_since(field, 0, 16) is None
