"""What a real Qdrant server does to the main job, and how each case is to end.

Each case runs on the loopback server, which behaves as a real one does, and on a real one, by REST
and by gRPC. Cases of speed and of collections that are written to all day are not here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse
from support.forked import run_forked
from support.qdrant.loopback.errors import RefusedError
from support.qdrant.loopback.numbers import read_float
from support.qdrant.loopback.strict import Limits
from support.qdrant.places import SERVED, SERVER, Place, need_shard_keys, open_place
from support.tcp_proxy import Proxy, reset
from typer.testing import CliRunner

from vecmigrate import Procrustes, migrate, open_source, save_translator
from vecmigrate.cli import app
from vecmigrate.errors import ExitCode, TerminatedError

OLD, NEW = 16, 24
RNG = np.random.default_rng(0)
COSINE = models.VectorParams(size=OLD, distance=models.Distance.COSINE)
LONGEST_SECONDS = 120.0


@dataclass
class Move:
    """A collection at a place, and the commands that move it."""

    place: Place
    folder: Path
    name: str = ""
    target: str = ""
    base: str = ""

    def uri(self, name: str, options: str = "") -> str:
        """As a user writes it, with the tool's own retries."""
        uri = self.place.uri(name, options).replace("retries=0&", "")
        return uri.replace(self.place.base, self.base or self.place.base, 1)

    @property
    def source_uri(self) -> str:
        return self.uri(self.name, "vector=text")

    @property
    def target_uri(self) -> str:
        return self.uri(self.target)

    @property
    def translator(self) -> Path:
        path = self.folder / "t.safetensors"
        if not path.exists():
            pair = RNG.standard_normal((100, OLD)), RNG.standard_normal((100, NEW))
            fitted = Procrustes().fit(*(part.astype(np.float32) for part in pair))
            save_translator(fitted, path)
        return path

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command; return what it says as JSON."""
        ran = CliRunner().invoke(app, [*arguments, "--json"])
        assert ran.exit_code == code, ran.output
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    def move(self, *more: str, code: int = 0) -> dict[str, Any]:
        pair = [self.source_uri, self.target_uri, "--translator", str(self.translator)]
        return self.run("migrate", *pair, *more, code=code)

    def verify(self, *more: str, code: int = 0) -> dict[str, Any]:
        pair = [self.source_uri, self.target_uri, "--translator", str(self.translator)]
        return self.run("verify", *pair, *more, code=code)

    def sync(self, *more: str, code: int = 0) -> dict[str, Any]:
        pair = [self.source_uri, self.target_uri, "--translator", str(self.translator)]
        return self.run("sync", *pair, *more, code=code)

    def changes(self) -> tuple[int, int, int]:
        """Sync; return how many points arrived, changed and vanished."""
        told = self.sync()
        return told["arrived"], told["changed"], told["vanished"]

    def create(self, **how: Any) -> None:
        how.setdefault("vectors_config", {"text": COSINE})
        with self.place.client() as client:
            client.create_collection(self.name, **how)

    def put(self, ids: range, payload: Callable[[int], dict[str, Any]], **where: Any) -> None:
        with self.place.client() as client:
            client.upsert(
                self.name,
                [
                    models.PointStruct(id=i, vector={"text": vector()}, payload=payload(i))
                    for i in ids
                ],
                wait=True,
                **where,
            )

    def count(self, name: str, **where: Any) -> int:
        with self.place.client() as client:
            return client.count(name, **where).count


@pytest.fixture(params=SERVED)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Move]:
    with open_place(request.param, tmp_path) as place:
        made = Move(place, tmp_path)
        made.name, made.target = place.name("old"), place.name("new")
        yield made


def vector(size: int = OLD) -> list[float]:
    return RNG.standard_normal(size).astype(np.float32).tolist()  # type: ignore[no-any-return]


@cache
def drifting(count: int) -> list[float]:
    """Doubles that go on changing each time that a server reads and writes them."""
    found: list[float] = []
    while len(found) < count:
        value = float(RNG.uniform(-90, 90)) * 10.0 ** int(RNG.integers(-12, 12))
        readings = [value]
        for _ in range(4):
            readings.append(read_float(repr(readings[-1])))
        if readings[1] != readings[2] and readings[2] != readings[4]:
            found.append(value)
    return found


def texts(i: int) -> dict[str, Any]:
    return {"text": f"t {i}"}


# Orders and numbers


def test_fields_and_indexes_in_an_order_of_their_own(case: Move) -> None:
    case.create(vectors_config={"text": COSINE, "title": COSINE})
    with case.place.client() as client:
        kinds = {"lang": "keyword", "year": "integer", "when": "datetime", "body": "text"}
        for field, kind in kinds.items():
            schema = models.PayloadSchemaType(kind)
            client.create_payload_index(case.name, field, schema, wait=True)
        points = [
            models.PointStruct(
                id=i,
                vector={"text": vector(), "title": vector()},
                payload={
                    "lang": "en",
                    "year": i,
                    "when": "2024-01-01T00:00:00Z",
                    "body": f"passage {i}",
                    "nested": {"b": 1, "a": [1, None], "c": {"y": 1, "x": 2}},
                },
            )
            for i in range(300)
        ]
        client.upsert(case.name, points, wait=True)
    assert case.move()["written"] == 300
    case.verify("--full")
    assert case.changes() == (0, 0, 0)


def test_doubles_whose_last_bit_changes(case: Move) -> None:
    case.create()
    values = drifting(300)
    case.put(
        range(400),
        lambda i: {
            "price": float(RNG.random()),
            "lat": float(RNG.uniform(-90, 90)),
            "nested": {"list": [values[i % len(values)]]},
            "big": 2**62 + i,
        },
    )
    assert case.move()["written"] == 400
    case.verify("--full")
    assert case.changes() == (0, 0, 0)
    case.verify("--full")


def test_a_run_begun_by_grpc_is_continued_by_rest(case: Move) -> None:
    """The one tells a quantile of 0.99 as 0.9900000095, the other as 0.99."""
    if case.place.wire != "grpc":
        pytest.skip("it begins by gRPC")
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
    case.create(quantization_config=models.ScalarQuantization(scalar=scalar))
    case.put(range(300), texts)
    state, seen = case.folder / "state.sqlite", 0

    def note(count: int) -> None:
        nonlocal seen
        seen += count

    how: dict[str, Any] = {"state": state, "batch_size": 20, "checkpoint_seconds": 0}
    with proxied(case) as (_, by_grpc):
        pair = case.source_uri, case.target_uri, case.translator
        with pytest.raises(TerminatedError):
            migrate(*pair, progress=note, stop=lambda: seen >= 60, **how)
        by_grpc.leave()
        # As by another process: this one knows by what the server is reached.
        more = ["--translator", str(case.translator), "--state", str(state), "--batch-size", "20"]
        ran = run_forked("-m", "vecmigrate", "migrate", *pair[:2], *more)
    assert ran.returncode == 0, ran.stderr
    assert case.count(case.target) == 300


def test_how_a_server_is_reached_is_no_part_of_a_job(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    state, seen = case.folder / "state.sqlite", 0

    def note(count: int) -> None:
        nonlocal seen
        seen += count

    by_grpc = case.place.wire == "grpc"
    pair = case.source_uri, case.target_uri
    how: dict[str, Any] = {"state": state, "batch_size": 20, "checkpoint_seconds": 0}
    with pytest.raises(TerminatedError):
        migrate(*pair, case.translator, progress=note, stop=lambda: seen >= 60, **how)
    if by_grpc:
        case.place.options = "timeout=30&grpc=false"
    else:
        case.place.options += "&readers=2"
    told = case.move("--state", str(state))
    assert (told["written"], told["continued_after"]) == (300, seen)
    case.verify("--full", "--state", str(state))
    # By the other protocol a payload has another hash: the pass before publishing brought it.
    assert case.sync("--state", str(state))["adopted"] == 0


# Strict mode

STRICT: dict[str, dict[str, Any]] = {
    "query": {"max_query_limit": 50},
    "upsert": {"upsert_max_batchsize": 100},
    "read": {"read_rate_limit": 20},
    "write": {"write_rate_limit": 200},
    "exact": {"search_allow_exact": False},
    "batch": {"search_max_batchsize": 10},
    "ef": {"search_max_hnsw_ef": 64},
    "filter": {"unindexed_filtering_retrieve": False, "unindexed_filtering_update": False},
    "size": {"max_collection_vector_size_bytes": 350 * OLD * 4},
    "timeout": {"max_timeout": 5},
}


@pytest.mark.parametrize("limit", STRICT)
def test_each_command_stays_within_a_limit(
    case: Move, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "pace", 60.0)
    case.create()
    case.put(range(300), texts)
    strict = models.StrictModeConfig(enabled=True, **STRICT[limit])
    with case.place.client() as client:
        client.update_collection(case.name, strict_mode_config=strict)
    case.run("inspect", case.source_uri)
    assert case.move()["written"] == 300
    case.verify()
    with case.place.client() as client:
        found = client.get_collection(case.target).config.strict_mode_config
    assert found is not None
    assert found.enabled
    named, value = next(iter(STRICT[limit].items()))
    if limit == "size":
        assert getattr(found, named) == value * NEW // OLD
    else:
        assert getattr(found, named) == value
    assert case.changes() == (0, 0, 0)
    case.put(range(300, 320), texts)
    assert case.changes() == (20, 0, 0)
    case.verify()
    if limit not in ("exact", "read"):
        assert case.count(case.target) == 320


def test_a_limit_that_the_new_dimension_breaks_can_be_kept(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    strict = models.StrictModeConfig(enabled=True, **STRICT["size"])
    with case.place.client() as client:
        client.update_collection(case.name, strict_mode_config=strict)
    case.move("--keep-limits", code=ExitCode.MISMATCH)
    assert not case.place.exists(case.target)


# Shard keys

KEYS = ("eu", "us", 7)


def tenants(case: Move, count: int = 100) -> None:
    """The same ids under each of three keys."""
    need_shard_keys(case.place)
    case.create(sharding_method=models.ShardingMethod.CUSTOM, shard_number=1)
    with case.place.client() as client:
        for key in KEYS:
            client.create_shard_key(case.name, key)
    for key in KEYS:
        case.put(
            range(count),
            lambda i, key=key: {"text": f"{key} {i}", "tenant": str(key)},  # type: ignore[misc]
            shard_key_selector=key,
        )


def test_ids_under_several_shard_keys_all_arrive(case: Move) -> None:
    tenants(case)
    assert case.move()["written"] == 300
    assert case.count(case.target) == 300
    with case.place.client() as client:
        for key in KEYS:
            found, _ = client.scroll(case.target, limit=500, shard_key_selector=key)
            assert [(r.payload or {})["text"] for r in found] == [f"{key} {i}" for i in range(100)]
    case.verify("--full")
    assert case.changes() == (0, 0, 0)


def test_sync_keeps_shard_keys_apart(case: Move) -> None:
    tenants(case, 50)
    case.move()
    case.sync()
    case.put(range(50, 55), texts, shard_key_selector="eu")
    case.put(range(3), texts, shard_key_selector="us")
    with case.place.client() as client:
        one = models.PointIdsList(points=[10])
        client.delete(case.name, one, shard_key_selector=7, wait=True)
        client.create_shard_key(case.name, "asia")
    case.put(range(5), texts, shard_key_selector="asia")
    assert case.changes() == (10, 3, 1)
    case.verify("--full")
    wanted = {"eu": 55, "us": 50, 7: 49, "asia": 5}
    counts = {key: case.count(case.target, shard_key_selector=key) for key in wanted}
    assert counts == wanted


def test_shard_keys_are_never_merged_at_a_server_without_them(case: Move) -> None:
    engine = case.place.engine
    if engine is None:
        pytest.skip("a real server is in cluster mode or not")
    tenants(case, 50)
    engine.in_cluster = False
    for more in ([], ["--id-with-key"]):
        told = case.move(*more, code=ExitCode.MISMATCH)
        assert "cluster mode" in told["error"]["message"]
        assert not case.place.exists(case.target)


def test_shard_keys_are_never_merged_in_another_store(case: Move) -> None:
    tenants(case, 50)
    file = case.folder / "new.parquet"
    pair = [case.source_uri, f"parquet:{file}", "--translator", str(case.translator)]
    case.run("migrate", *pair, code=ExitCode.MISMATCH)
    assert not file.exists()
    assert case.run("migrate", *pair, "--id-with-key")["written"] == 150
    with open_source(f"parquet:{file}") as target:
        ids = {str(i) for batch in target.batches(100) for i in batch.ids}
    assert ids == {f"{key}/{i}" for key in KEYS for i in range(50)}


# Points


def test_a_point_that_lost_a_vector_loses_it_at_the_target(case: Move) -> None:
    case.create(vectors_config={"text": COSINE, "title": COSINE})
    with case.place.client() as client:
        points = [
            models.PointStruct(id=i, vector={"text": vector(), "title": vector()}, payload=texts(i))
            for i in range(300)
        ]
        client.upsert(case.name, points, wait=True)
    case.move()
    case.sync()
    with case.place.client() as client:
        client.delete_vectors(case.name, vectors=["text"], points=[5, 6, 7], wait=True)
    case.sync()
    with case.place.client() as client:
        found = client.retrieve(case.target, [4, 5, 6, 7], with_vectors=True)
    names = [set(record.vector or {}) for record in found]
    assert names == [{"text", "title"}, {"title"}, {"title"}, {"title"}]
    case.verify("--full")


def test_points_deleted_while_they_get_their_vector_in_place(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    gone: list[int] = []

    def delete(count: int) -> None:
        """Of the last points, which wait to be written."""
        if len(gone) < 20:
            ids = [299 - len(gone) - n for n in range(4)]
            gone.extend(ids)
            with case.place.client() as client:
                client.delete(case.name, models.PointIdsList(points=ids), wait=True)

    target = case.uri(case.name, "vector=new&in_place=true")
    migrate(case.source_uri, target, case.translator, batch_size=20, progress=delete)
    with case.place.client() as client:
        found, _ = client.scroll(case.name, limit=400, with_vectors=True)
    assert len(found) == 300 - len(gone)
    assert all(set(record.vector or {}) == {"text", "new"} for record in found)


def test_a_point_that_lost_its_vector_in_place_gets_it_by_sync(case: Move) -> None:
    case.create()
    case.put(range(100), texts)
    target = case.uri(case.name, "vector=new&in_place=true")
    pair = [case.source_uri, target, "--translator", str(case.translator)]
    case.run("migrate", *pair)
    case.put(range(5), lambda i: {"text": f"another {i}"})
    case.put(range(100, 103), texts)
    case.run("sync", *pair)
    with case.place.client() as client:
        found, _ = client.scroll(case.name, limit=200, with_vectors=True)
    assert len(found) == 103
    assert all(set(record.vector or {}) == {"text", "new"} for record in found)
    case.run("verify", *pair, "--full")


# Servers that go away

PASSING = {
    "a node that is down": (500, "Service internal error: Tonic status error: tcp connect error"),
    "too few replicas": (
        500,
        "Service internal error: The replica set for shard 0 on peer 1 has no active replica, "
        "not enough active replicas, please retry",
    ),
    "an operation that takes too long": (408, "Timeout: Operation timed out"),
}


@pytest.mark.parametrize("what", PASSING)
def test_what_passes_in_a_cluster_is_waited_for(case: Move, what: str) -> None:
    engine = case.place.engine
    if engine is None:
        pytest.skip("needs a cluster whose nodes die on request")
    case.create()
    case.put(range(300), texts)
    done = threading.Event()

    def fail() -> None:
        until(lambda: case.place.exists(case.target) and case.count(case.target) > 0)
        with engine.lock:
            engine.faults.extend(RefusedError(*PASSING[what]) for _ in range(3))
        done.set()

    with beside(fail):
        told = case.move("--batch-size", "20", "--max-rate", "150")
    assert done.is_set()
    assert (told["written"], case.count(case.target)) == (300, 300)


def test_a_server_that_restarts_is_waited_for(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    with proxied(case) as proxies:

        def restart() -> None:
            until(lambda: case.place.exists(case.target) and case.count(case.target) > 0)
            for proxy in proxies:
                proxy.always = reset
                proxy.cut()
            # More than the one retry that the URI grants.
            time.sleep(4)
            for proxy in proxies:
                proxy.always = proxy.passed

        with beside(restart):
            told = case.move("--batch-size", "20", "--max-rate", "150")
    assert (told["written"], case.count(case.target)) == (300, 300)


@contextmanager
def proxied(case: Move) -> Iterator[list[Proxy]]:
    """Lead the case's commands through proxies, and no more retries than one."""
    host, _, port = case.place.base.rpartition(":")
    with ExitStack() as stack:
        rest = stack.enter_context(Proxy(int(port)))
        proxies, options = [rest], "grpc=false"
        if case.place.grpc_port is not None:
            proxies.append(stack.enter_context(Proxy(case.place.grpc_port)))
            options = f"grpc_port={proxies[1].port}"
        case.base, case.place.options = f"{host}:{rest.port}", f"{options}&retries=1"
        yield proxies


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do something while something else is done; both end, or it fails."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(LONGEST_SECONDS)
    assert not thread.is_alive()


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Limits of the node


NODE = ["max_disk_usage_percent", "max_resident_memory_percent"]


def limit_node(case: Move, name: str, setting: str, percent: int) -> None:
    """Give a collection a limit on the use of the node, on which more than 1 % is used."""
    engine = case.place.engine
    if engine is not None:
        engine.disk_percent = engine.memory_percent = 90
    url = SERVER if engine is None else case.place.base.replace("qdrant:", "http:")
    strict = {"strict_mode_config": {"enabled": True, setting: percent}}
    assert httpx.patch(f"{url}/collections/{name}", json=strict).status_code == 200
    if percent > 1:
        return
    try:
        with case.place.client() as client:
            client.set_payload(name, {"text": "t"}, points=[0])
    except UnexpectedResponse:
        return
    pytest.skip("needs a node that uses 1 % of its memory at least, as in a small container")


@pytest.mark.parametrize("setting", NODE)
def test_a_full_node_is_told_as_that(case: Move, setting: str) -> None:
    """No point is at fault for it, and none is set aside."""
    case.create()
    case.put(range(100), texts)
    case.move()
    limit_node(case, case.target, setting, 1)
    case.put(range(100, 110), texts)
    told = case.sync(code=ExitCode.WRITE_FAILED)
    assert setting in told["error"]["message"]
    assert "point 10" not in told["error"]["message"]
    assert case.count(case.target) == 100
    limit_node(case, case.target, setting, 100)
    assert case.sync()["arrived"] == 10
    case.verify()


@pytest.mark.parametrize("setting", NODE)
def test_a_full_node_takes_no_vector_in_place(case: Move, setting: str) -> None:
    """It is told as the node's, not as what its version cannot."""
    case.create()
    case.put(range(100), texts)
    limit_node(case, case.name, setting, 1)
    new = case.uri(case.name, "vector=new&in_place=true")
    command = ["migrate", case.source_uri, new, "--translator", str(case.translator)]
    told = case.run(*command, code=ExitCode.WRITE_FAILED)
    assert setting in told["error"]["message"]
    limit_node(case, case.name, setting, 100)
    assert case.run(*command)["written"] == 100


@pytest.mark.parametrize("how", ["limit of new collections", "no room"])
def test_a_node_without_room_blames_no_point(case: Move, how: str) -> None:
    engine = case.place.engine
    if engine is None:
        pytest.skip("needs a node whose disk is full, or one that gives limits to new collections")
    case.create()
    case.put(range(100), texts)
    if how == "no room":
        engine.disk_full = True
    else:
        engine.disk_percent, engine.most_disk_percent = 90, 80
    letters = case.folder / "letters.jsonl"
    told = case.move(
        "--on-bad-point", "quarantine", "--dead-letters", str(letters), code=ExitCode.WRITE_FAILED
    )
    assert "point 0" not in told["error"]["message"]
    assert not letters.exists()
    engine.disk_full, engine.disk_percent = False, 0
    assert case.move()["written"] == 100


def test_a_collection_that_is_never_indexed(case: Move) -> None:
    """It is told, waiting ends, and nothing indexed is no recall of an index."""
    never = models.OptimizersConfigDiff(max_optimization_threads=0, indexing_threshold=10)
    case.create(optimizers_config=never)
    case.put(range(600), texts)
    told = case.move()
    assert told["written"] == 600
    assert any("max_optimization_threads" in note for note in told["notes"])
    checks = case.verify()["checks"]
    assert not any(
        check["name"].startswith("index") and check["outcome"] == "passed" for check in checks
    )


# Somebody else, and what is lost


def test_two_machines_do_not_move_one_collection(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    elsewhere = case.folder / "another machine"
    tried: list[int] = []

    def other(count: int) -> None:
        if tried:
            return
        pair = [case.source_uri, case.target_uri, "--translator", str(case.translator)]
        state = ["--state", str(elsewhere / "state.sqlite")]
        ran = CliRunner().invoke(app, ["migrate", *pair, *state, "--restart"])
        tried.append(ran.exit_code)

    result = migrate(
        case.source_uri,
        case.target_uri,
        case.translator,
        state=case.folder / "mine.sqlite",
        batch_size=20,
        checkpoint_seconds=0,
        progress=other,
    )
    assert tried == [ExitCode.LOCKED]
    assert (result.written, case.count(case.target)) == (300, 300)


def test_a_lost_state_file_costs_nothing_but_time(case: Move) -> None:
    case.create()
    case.put(range(300), texts)
    state, seen = case.folder / "lost.sqlite", 0

    def note(count: int) -> None:
        nonlocal seen
        seen += count

    with pytest.raises(TerminatedError):
        migrate(
            case.source_uri,
            case.target_uri,
            case.translator,
            state=state,
            batch_size=20,
            checkpoint_seconds=0,
            progress=note,
            stop=lambda: seen >= 60,
        )
    for file in case.folder.glob("lost.sqlite*"):
        file.unlink()
    case.move()
    assert case.count(case.target) == 300
    case.verify("--full")


def test_an_alias_needs_no_vector(case: Move) -> None:
    case.create(vectors_config={"text": COSINE, "title": COSINE})
    with case.place.client() as client:
        points = [
            models.PointStruct(id=i, vector={"text": vector(), "title": vector()}, payload=texts(i))
            for i in range(50)
        ]
        client.upsert(case.name, points, wait=True)
        live = case.place.name("live")
        change = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=case.name, alias_name=live)
        )
        client.update_collection_aliases([change])
    case.move()
    case.verify()
    case.run("cutover", case.uri(live), "--to", case.target_uri)
    with case.place.client() as client:
        [alias] = [a for a in client.get_aliases().aliases if a.alias_name == live]
    assert alias.collection_name == case.target
