"""A collection is moved while others write to it: what they change meanwhile arrives too."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from qdrant_client import models
from support.qdrant.places import SERVED, Place, need_shard_keys, open_place

from vecmigrate import Procrustes, migrate, open_source, open_updater, save_translator
from vecmigrate.errors import (
    ExitCode,
    InputError,
    MismatchError,
    TerminatedError,
    UnsettledError,
    UsageError,
    VerificationError,
)
from vecmigrate.runtime.settling import FEW
from vecmigrate.state.file import open_records
from vecmigrate.sync import status_of, sync
from vecmigrate.verification import CheckResult, Verification, VerifyOptions, verify

COUNT, OLD, NEW = 400, 16, 24
STORES = ["qdrant", "faiss", "parquet", "lancedb", "qdrant-edge"]
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((3000, OLD)).astype(np.float32)
ROTATION = np.linalg.qr(RNG.standard_normal((NEW, NEW)))[0][:OLD]


@dataclass
class Live:
    """A collection at a server, and what its writers do."""

    place: Place
    folder: Path
    target: str
    name: str = ""
    edits: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        return self.place.uri(self.name)

    @property
    def translator(self) -> Path:
        return self.folder / "t.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "state" / "s.sqlite"

    def put(self, ids: list[int], rows: np.ndarray, **more: Any) -> None:
        with self.place.client() as client:
            client.upsert(
                self.name,
                [
                    models.PointStruct(
                        id=i, vector=row.tolist(), payload={"text": f"text {i}", **more}
                    )
                    for i, row in zip(ids, rows, strict=True)
                ],
            )

    def edit(self, size: int = 1) -> None:
        """Change points at both ends of the collection in all ways, other ones each time."""
        self.edits += 1
        turn, low = self.edits, 7 * self.edits % 100
        ends = [i for at in range(size) for i in (low + at, COUNT - 1 - low - at)]
        self.put(ends, ROWS[[(turn * 37 + i) % len(ROWS) for i in ends]], turn=turn)
        new = [5000 + 1000 * turn + i for i in range(size)]
        self.put(new, ROWS[:size])
        with self.place.client() as client:
            client.set_payload(self.name, {"n": turn}, points=[low + 150, COUNT - low - 150])
            client.delete(self.name, models.PointIdsList(points=[200 + turn, COUNT - 30 - turn]))
            if turn > 1:
                gone = [5000 + 1000 * (turn - 1) + i for i in range(size)]
                client.delete(self.name, models.PointIdsList(points=gone))

    def move(self, **how: Any) -> Any:
        given = {"batch_size": 50, "announce": self.said.append, **how}
        return migrate(self.source, self.target, self.translator, state=self.state, **given)

    def sync(self) -> Any:
        return sync(self.source, self.target, self.translator, self.state)

    def verify(self, **how: Any) -> Verification:
        asked = VerifyOptions(full=True, **how)
        return verify(self.source, self.target, self.translator, asked, state=self.state)

    def check(self) -> None:
        """One sync of what stands still now makes it what a fresh migration makes."""
        self.sync()
        found = self.verify()
        assert found.passed, found.failures
        assert {check.outcome for check in found.checks if check.name == "pending"} <= {
            CheckResult.PASSED
        }
        again = self.sync()
        assert (again.wrote, again.adopted, again.left_alone) == (0, 0, 0)
        assert contents(self.target).keys() == contents(self.source).keys()


def contents(uri: str) -> dict[Any, tuple[np.ndarray, dict[str, Any]]]:
    with open_source(uri) as source:
        return {
            i: (vector.copy(), dict(fields))
            for batch in source.batches(1000)
            for i, vector, fields in zip(
                batch.ids.tolist(), batch.vectors, batch.each_payload(), strict=True
            )
        }


def target_at(store: str, place: Place, folder: Path) -> str:
    if store == "qdrant":
        return place.uri(place.name("new"))
    names = {"faiss": "new.faiss", "parquet": "new.parquet", "lancedb": "db/new"}
    return f"{store}:{folder}/{names.get(store, 'edge')}"


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as there:
        yield there


def make(place: Place, folder: Path, store: str = "qdrant") -> Live:
    live = Live(place, folder, target_at(store, place, folder), place.name("old"))
    save_translator(Procrustes().fit(ROWS[:100], ROWS[:100] @ ROTATION), live.translator)
    with place.client() as client:
        client.create_collection(
            live.name,
            vectors_config=models.VectorParams(size=OLD, distance=models.Distance.COSINE),
        )
    live.put(list(range(COUNT)), ROWS[:COUNT])
    return live


def during(*edits: Callable[[], None]) -> Callable[[object], None]:
    """Return a callback that makes an edit on each of its first calls."""
    left = list(edits)

    def call(_: object) -> None:
        if left:
            left.pop(0)()

    return call


@pytest.mark.parametrize("store", STORES)
def test_what_changes_meanwhile_arrives(store: str, place: Place, tmp_path: Path) -> None:
    live = make(place, tmp_path, store)
    done = live.move(progress=during(live.edit, live.edit, live.edit, live.edit))
    assert done.as_of is not None
    with open_records(live.state) as records:
        assert status_of(live.target, live.state, records).as_of == done.as_of
    with open_source(live.target) as target:
        made = target.describe().provenance
    assert made is not None
    assert made.updated_at == done.as_of
    assert (done.written, done.in_step) == (len(contents(live.source)), True)
    assert contents(live.target).keys() == contents(live.source).keys()
    first = live.sync()
    assert (first.wrote, first.adopted, first.left_alone) == (0, 0, 0)
    live.check()


def test_passes_go_on_until_little_is_left(place: Place, tmp_path: Path) -> None:
    live = make(place, tmp_path)
    more = [110, 10]

    def announce(line: str) -> None:
        # Writers go on while a pass is told of, but fewer each time.
        if more and line.startswith("catching up"):
            size = more.pop(0)
            live.put(list(range(size)), ROWS[1000 * len(more) : 1000 * len(more) + size])

    # The first batch has been read, whatever else has: at least its points have changed.
    first = during(lambda: live.put(list(range(190)), ROWS[2000:2190]))
    done = live.move(progress=first, announce=announce, batch_size=200)
    assert not more
    assert done.as_of is not None
    live.check()


def test_a_source_that_never_settles_ends_unpublished_and_continues(
    place: Place, tmp_path: Path
) -> None:
    live = make(place, tmp_path)

    def announce(line: str) -> None:
        live.edit(FEW)

    with pytest.raises(UnsettledError) as caught:
        live.move(progress=during(lambda: live.edit(FEW)), announce=announce)
    assert caught.value.exit_code == ExitCode.UNSETTLED
    with open_source(live.target) as target, pytest.raises(InputError):
        target.describe().require_finished()
    live.edit()
    assert live.move().as_of is not None
    assert not live.sync().wrote
    live.check()


@pytest.mark.parametrize("store", ["qdrant", "faiss"])
def test_a_stopped_move_of_a_live_collection_is_continued(
    store: str, place: Place, tmp_path: Path
) -> None:
    live = make(place, tmp_path, store)
    for stop_after in (2, 5):
        calls: list[int] = []

        def stop(calls: list[int] = calls, after: int = stop_after) -> bool:
            calls.append(0)
            return len(calls) >= after

        with pytest.raises(TerminatedError):
            live.move(stop=stop)
        live.edit(3)
    passed: list[int] = []
    asked: list[int] = []

    def stop_catching_up() -> bool:
        asked.append(len(passed))
        # Asked twice without a batch of the first reading in between.
        return asked[-2:] == [len(passed)] * 2

    with pytest.raises(TerminatedError):
        live.move(stop=stop_catching_up, progress=passed.append)
    assert passed
    done = live.move()
    assert done.written == len(contents(live.target))
    live.check()


def test_a_shard_key_that_is_new_at_the_source_is_made_at_the_target(
    place: Place, tmp_path: Path
) -> None:
    need_shard_keys(place)
    live = Live(place, tmp_path, place.uri(place.name("new")), place.name("old"))
    save_translator(Procrustes().fit(ROWS[:100], ROWS[:100] @ ROTATION), live.translator)

    def put(key: str, ids: range) -> None:
        with place.client() as client:
            client.create_shard_key(live.name, key)
            made = [models.PointStruct(id=i, vector=ROWS[i].tolist(), payload={}) for i in ids]
            client.upsert(live.name, made, shard_key_selector=key)

    with place.client() as client:
        client.create_collection(
            live.name,
            vectors_config=models.VectorParams(size=OLD, distance=models.Distance.COSINE),
            sharding_method=models.ShardingMethod.CUSTOM,
        )
    put("eu", range(100))
    done = live.move(progress=during(lambda: put("us", range(60))))
    assert done.written == 160
    live.check()


@pytest.mark.parametrize("store", ["qdrant", "faiss"])
def test_what_the_source_changed_since_is_pending_and_nothing_else_is(
    store: str, place: Place, tmp_path: Path
) -> None:
    live = make(place, tmp_path, store)
    live.move()
    [pending, *_] = live.verify().checks
    assert (pending.name, pending.outcome) == ("pending", CheckResult.PASSED)
    live.edit(2)
    found = live.verify(max_pending=0.1)
    [pending, *others] = found.checks
    assert (pending.name, pending.outcome) == ("pending", CheckResult.WARNING)
    # Four got another vector and two a field; two arrived, two vanished.
    figures = {name: pending.figures[name] for name in ("changed", "arrived", "vanished")}
    assert figures == {"changed": 6, "arrived": 2, "vanished": 2}
    assert {check.outcome for check in others} <= {CheckResult.PASSED, CheckResult.SKIPPED}
    assert [check.name for check in live.verify().failures] == ["pending"]
    # A point at the target that is wrong is no pending one.
    with open_source(live.target) as target:
        wrong, made = target.fetch([300]), target.describe().provenance
    assert made is not None
    with open_updater(live.target, made) as updater:
        updater.upsert(wrong.with_vectors(-wrong.vectors))
        updater.finish()
    assert [check.name for check in live.verify(max_pending=0.1).failures] == ["vectors"]
    with open_updater(live.target, made) as updater:
        updater.upsert(wrong)
        updater.finish()
    live.check()


def test_a_ledger_of_another_protocol_tells_nothing(tmp_path: Path) -> None:
    with open_place("grpc", tmp_path) as place:
        live = make(place, tmp_path)
        live.move()
        by_rest = f"{live.source}&grpc=false"
        found = verify(by_rest, live.target, live.translator, state=live.state)
        assert found.passed, found.failures
        assert "pending" not in {check.name for check in found.checks}


def test_still_asks_for_a_source_that_stands_still(place: Place, tmp_path: Path) -> None:
    live = make(place, tmp_path)
    with pytest.raises(VerificationError):
        live.move(still=True, progress=during(lambda: live.put([9999], ROWS[:1])))
    with pytest.raises(InputError):
        contents(live.target)
    assert live.move(still=True).as_of is None


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
@pytest.mark.parametrize("changes", [2, FEW + 1])
def test_a_file_that_is_replaced_is_finished_and_its_successor_follows(
    store: str, changes: int, tmp_path: Path
) -> None:
    old, other = tmp_path / "old.faiss", tmp_path / "other.faiss"
    for path, rows, ids in (
        (old, ROWS[:COUNT], np.arange(COUNT)),
        (other, ROWS[1:COUNT], np.arange(1, COUNT)),
    ):
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(OLD))
        rows = rows.copy()
        if path == other:
            # After more than a few, another pass looks whether it stood still.
            rows[3 : 3 + changes] = ROWS[600 : 600 + changes]
        index.add_with_ids(rows, ids)
        faiss.write_index(index, str(path))
    target = f"faiss:{tmp_path}/new.faiss" if store == "faiss" else f"qdrant:{tmp_path}/q/new"
    translator, state = tmp_path / "t", tmp_path / "state" / "s.sqlite"
    save_translator(Procrustes().fit(ROWS[:100], ROWS[:100] @ ROTATION), translator)
    source = f"faiss:{old}"
    replaced = during(lambda: other.replace(old))
    done = migrate(source, target, translator, state=state, batch_size=50, progress=replaced)
    assert (done.written, done.as_of is not None) == (COUNT - 1, True)
    found = verify(source, target, translator, VerifyOptions(full=True))
    assert found.passed, found.failures
    first = sync(source, target, translator, state)
    assert (first.wrote, first.adopted) == (0, 0)


KINDS = ["Flat", "IDMap2,Flat", "SQ8", "IVF8,Flat", "IVF8,SQ8", "HNSW8", "npy"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_written_over_ends_the_run_with_one_error(kind: str, tmp_path: Path) -> None:
    """As faiss.write_index does, which cuts the file off and fills it again."""
    rows = np.tile(ROWS, (3, 1))
    store = "npy" if kind == "npy" else "faiss"

    def write(count: int) -> None:
        if kind == "npy":
            np.save(tmp_path / "old.npy", rows[:count])
            return
        index = faiss.index_factory(OLD, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.add_with_ids(rows[:count], np.arange(count)) if "IDMap" in kind else index.add(
            rows[:count]
        )
        faiss.write_index(index, str(tmp_path / "old.faiss"))

    write(len(rows))
    translator, state = tmp_path / "t", tmp_path / "state" / "s.sqlite"
    save_translator(Procrustes().fit(ROWS[:100], ROWS[:100] @ ROTATION), translator)
    pair = f"{store}:{tmp_path}/old.{store}", f"faiss:{tmp_path}/new.faiss"
    how = {"state": state, "batch_size": 100}
    with pytest.raises(InputError) as caught:
        migrate(*pair, translator, progress=during(lambda: write(500)), **how)
    assert f"{tmp_path}/old.{store}" in caught.value.message
    assert not (tmp_path / "new.faiss").exists()
    assert migrate(*pair, translator, restart=True, **how).written == 500


def test_a_file_that_changed_since_a_stop_is_refused(tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(OLD)
    index.add(ROWS[:COUNT])
    old = tmp_path / "old.faiss"
    faiss.write_index(index, str(old))
    translator, state = tmp_path / "t", tmp_path / "state" / "s.sqlite"
    save_translator(Procrustes().fit(ROWS[:100], ROWS[:100] @ ROTATION), translator)
    pair = f"faiss:{old}", f"faiss:{tmp_path}/new.faiss"
    with pytest.raises(TerminatedError):
        migrate(*pair, translator, state=state, batch_size=50, stop=lambda: True)
    shutil.copy(old, tmp_path / "copy")
    index.add(ROWS[COUNT : COUNT + 1])
    faiss.write_index(index, str(old))
    # Its cursor counts rows, which are others now.
    with pytest.raises(MismatchError):
        migrate(*pair, translator, state=state)
    assert migrate(*pair, translator, state=state, restart=True).written == COUNT + 1


def stamped(live: Live, ids: list[int], rows: np.ndarray, at: float | None = None) -> None:
    """Write points as an application does that sets the time of change."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    live.put(ids, rows, at=moment.isoformat())


def stamp(live: Live, *, index: bool) -> None:
    """Give all points a time of change, most of them hours ago."""
    for first in range(0, COUNT, 20):
        ids, ago = list(range(first, first + 20)), 3600 * (1 + (COUNT - first) // 20)
        stamped(live, ids, ROWS[ids], time.time() - ago)
    if index:
        kind = models.PayloadSchemaType.DATETIME
        with live.place.client() as client:
            client.create_payload_index(live.name, "at", kind, wait=True)


def writes(live: Live, size: int) -> None:
    """Change points at both ends, add some, delete some, and let one lose its time."""
    live.edits += 1
    turn = live.edits
    ends = [i for at in range(size) for i in (at, COUNT - 31 - at)]
    stamped(live, ends, ROWS[[(turn * 37 + i) % len(ROWS) for i in ends]])
    stamped(live, [5000 + 1000 * turn + i for i in range(size)], ROWS[:size])
    live.put([150 + turn], ROWS[turn : turn + 1])
    with live.place.client() as client:
        client.delete(live.name, models.PointIdsList(points=[200 + turn, COUNT - 30 - turn]))


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("store", ["qdrant", "faiss"])
def test_a_pass_by_a_field_reads_what_is_late(
    store: str, index: bool, place: Place, tmp_path: Path
) -> None:
    live = make(place, tmp_path, store)
    stamp(live, index=index)
    edits = [lambda: writes(live, 3)] * 4
    done = live.move(progress=during(*edits), changed_by="at")
    found = done.found_by
    assert (found.way, found.told_by) == (("field", "index") if index else ("hash", None))
    if index:
        assert found.read < 60
        assert found.not_compared > COUNT - 60
    assert contents(live.target).keys() == contents(live.source).keys()
    writes(live, 2)
    first = sync(live.source, live.target, live.translator, live.state, changed_by="at")
    assert (first.found_by.way, first.found_by.full) == ("field", None)
    assert first.wrote
    live.check()


def test_a_stopped_move_by_a_field_brings_what_changed_before_it_was_stopped(
    place: Place, tmp_path: Path
) -> None:
    live = make(place, tmp_path)
    stamp(live, index=True)
    calls: list[int] = []

    def stop() -> bool:
        calls.append(0)
        return len(calls) >= 3

    with pytest.raises(TerminatedError):
        live.move(stop=stop, changed_by="at")
    writes(live, 3)
    done = live.move(changed_by="at")
    assert done.found_by.told_by == "index"
    assert not live.sync().wrote
    live.check()


def test_versions_are_compared_by_hash_while_they_are_new(place: Place, tmp_path: Path) -> None:
    live = make(place, tmp_path)
    live.put(list(range(COUNT)), ROWS[:COUNT], version=1)
    with place.client() as client:
        integer = models.PayloadSchemaType.INTEGER
        client.create_payload_index(live.name, "version", integer, wait=True)
    late = during(lambda: live.put([0, 1], ROWS[500:502], version=2))
    done = live.move(progress=late, changed_by="version")
    assert (done.found_by.way, done.found_by.full is not None) == ("hash", True)
    late = during(lambda: live.put([0, 1], ROWS[500:502], version=2))
    live.target = place.uri(place.name("other"))
    done = live.move(progress=late, changed_by="version", overlap="0")
    assert (done.found_by.way, done.found_by.told_by) == ("field", "index")
    live.check()


def test_a_pass_does_not_go_by_ids_alone(place: Place, tmp_path: Path) -> None:
    live = make(place, tmp_path)
    with pytest.raises(UsageError):
        live.move(changed_by="ids")
