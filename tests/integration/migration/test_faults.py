"""Faults of the network and the server: a migration ends whole, or with one clear error."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.crash import is_unfinished, make_source, make_translator
from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RestServer
from support.tcp_proxy import Fault, Proxy, answered, delayed, half_answered, reset
from vecmigrate_qdrant.server.retrying import MOST, Circuit

from vecmigrate import migrate, open_source, patience
from vecmigrate.connector import Source, VectorBatch
from vecmigrate.errors import (
    ExitCode,
    InputError,
    RefusedError,
    TerminatedError,
    UnreachableError,
    WriteError,
)
from vecmigrate.migration.dead_letters import DeadLetters
from vecmigrate.migration.write import Pace
from vecmigrate.runtime.waiting import waits_told_to
from vecmigrate.verification import VerifyOptions, verify

COUNT = 60
Places = tuple[Path, str, Proxy]
Held = tuple[dict[int, dict[str, Any] | None], np.ndarray]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a source and a translator."""
    make_source("faiss", tmp_path, COUNT)
    make_translator(tmp_path)
    return tmp_path


@pytest.fixture
def places(folder: Path, engine: Engine) -> Iterator[Places]:
    """That folder, a target's URI behind a proxy, and the proxy."""
    with RestServer(engine) as server, Proxy(server.port) as proxy:
        yield folder, f"qdrant://127.0.0.1:{proxy.port}/new?grpc=false&timeout=1&retries=2", proxy


def move(folder: Path, target: str, **more: object) -> None:
    migrate(
        f"faiss:{folder}/old.faiss", target, folder / "translator",
        state=folder / "state.sqlite", batch_size=10, checkpoint_seconds=0, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def held(engine: Engine, name: str = "new") -> Held:
    """Payloads by id, and the vectors in the order of the ids."""
    records, _ = engine.local.scroll(name, limit=COUNT + 1, with_vectors=True)
    records.sort(key=lambda record: record.id)
    vectors = np.array([r.vector for r in records], dtype=np.float32)
    return {int(r.id): r.payload for r in records}, vectors


def same(found: Held, folder: Path) -> bool:
    """True where it is what a migration of the same writes where nothing fails.

    The local engine, unlike a server, moves the last bit of a vector that is written twice.
    """
    payloads, vectors = undisturbed(folder)
    return found[0] == payloads and np.allclose(found[1], vectors, rtol=0, atol=1e-6)


def undisturbed(folder: Path) -> Held:
    engine = Engine()
    with RestServer(engine) as server:
        migrate(
            f"faiss:{folder}/old.faiss",
            f"qdrant://127.0.0.1:{server.port}/new?grpc=false",
            folder / "translator",
            batch_size=10,
        )
    return held(engine)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(reset, id="reset"),
        pytest.param(half_answered, id="half an answer"),
        pytest.param(delayed(1.3), id="delayed beyond the timeout"),
        pytest.param(delayed(0.3), id="delayed"),
        pytest.param(answered("503 Service Unavailable"), id="503"),
        pytest.param(answered("429 Too Many Requests", "Retry-After: 1"), id="429"),
    ],
)
def test_a_fault_that_passes_leaves_no_trace(places: Places, engine: Engine, fault: Fault) -> None:
    folder, target, proxy = places
    before = (folder / "old.faiss").read_bytes()

    def spoil(count: int) -> None:
        if not spoiled:
            spoiled.append(count)
            proxy.faults.append(fault)

    spoiled: list[int] = []
    move(folder, target, progress=spoil)
    assert spoiled
    assert not proxy.faults
    assert same(held(engine), folder)
    assert (folder / "old.faiss").read_bytes() == before


@pytest.mark.parametrize(
    "fault",
    [reset, half_answered, answered("503 Service Unavailable"), answered("429 Too Many Requests")],
    ids=["reset", "half an answer", "503", "429"],
)
def test_a_fault_that_stays_ends_the_run_and_the_next_one_continues(
    places: Places, engine: Engine, fault: Fault
) -> None:
    ends_then_continues(places, engine, fault)


def ends_then_continues(places: Places, engine: Engine, fault: Fault) -> None:
    """Have the fault from the first batch on, and not in a second run."""
    folder, target, proxy = places
    before = (folder / "old.faiss").read_bytes()

    def spoil(count: int) -> None:
        proxy.always = fault
        proxy.cut()

    with patience(0), pytest.raises(UnreachableError, match=r"127\.0\.0\.1") as caught:
        move(folder, target, progress=spoil)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert (folder / "old.faiss").read_bytes() == before

    proxy.always = proxy.passed
    assert is_unfinished(target)
    said: list[str] = []
    move(folder, target, announce=said.append)
    assert "continuing" in said[0]
    assert same(held(engine), folder)


@pytest.fixture
def grpc_places(folder: Path, engine: Engine) -> Iterator[Places]:
    """The same over gRPC, whose one connection stays open from request to request."""
    with (
        RestServer(engine) as rest,
        GrpcServer(engine) as server,
        Proxy(server.port) as proxy,
    ):
        options = f"grpc=true&grpc_port={proxy.port}&timeout=1&retries=4"
        yield folder, f"qdrant://127.0.0.1:{rest.port}/new?{options}", proxy


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="cut"),
        pytest.param(reset, id="cut, then reset"),
        pytest.param(half_answered, id="cut, then half an answer"),
        pytest.param(delayed(0.3), id="cut, then delayed"),
        pytest.param(delayed(1.3), id="cut, then delayed beyond the timeout"),
    ],
)
def test_a_connection_of_grpc_that_is_cut_is_opened_again(
    grpc_places: Places, engine: Engine, fault: Fault | None
) -> None:
    folder, target, proxy = grpc_places
    before = (folder / "old.faiss").read_bytes()
    met: list[int] = []

    def spoil(count: int) -> None:
        if not met:
            met.append(proxy.connections)
            if fault is not None:
                proxy.faults.append(fault)
            proxy.cut()

    move(folder, target, progress=spoil)
    assert proxy.connections > met[0]
    assert not proxy.faults
    assert same(held(engine), folder)
    assert (folder / "old.faiss").read_bytes() == before


def test_an_answer_over_grpc_that_is_lost_is_asked_for_again(
    grpc_places: Places, engine: Engine
) -> None:
    folder, target, proxy = grpc_places
    asked: list[int] = []

    def spoil(count: int) -> None:
        asked.append(proxy.connections)
        if len(asked) in (1, 3):
            proxy.halving.set()

    move(folder, target, progress=spoil)
    assert not proxy.halving.is_set()
    assert proxy.connections >= asked[0] + 2
    assert same(held(engine), folder)


@pytest.mark.parametrize("fault", [reset, half_answered], ids=["reset", "half an answer"])
def test_a_fault_of_grpc_that_stays_ends_the_run_and_the_next_one_continues(
    grpc_places: Places, engine: Engine, fault: Fault
) -> None:
    ends_then_continues(grpc_places, engine, fault)


@pytest.mark.parametrize("how", ["places", "grpc_places"])
def test_a_server_that_is_away_for_a_while_leaves_no_trace(
    how: str, request: pytest.FixtureRequest, engine: Engine
) -> None:
    """As one that is upgraded; away for longer than a request's own retries."""
    folder, target, proxy = request.getfixturevalue(how)
    target = re.sub("retries=[0-9]+", "retries=0", target)
    before = (folder / "old.faiss").read_bytes()
    left: list[int] = []

    def leave(count: int) -> None:
        if not left:
            left.append(count)
            proxy.leave()

    def tell(line: str | None) -> None:
        if proxy.is_away:
            proxy.back()

    with waits_told_to(tell):
        move(folder, target, progress=leave)
    assert left
    assert not proxy.is_away
    assert same(held(engine), folder)
    assert (folder / "old.faiss").read_bytes() == before


def test_a_flapping_connection_of_grpc_ends_whole(grpc_places: Places, engine: Engine) -> None:
    folder, target, proxy = grpc_places
    move(folder, target, progress=lambda count: proxy.cut())
    assert proxy.connections > COUNT // 10
    assert same(held(engine), folder)


def test_what_does_not_pass_is_not_asked_again(places: Places) -> None:
    folder, target, proxy = places
    asked: list[int] = []

    def spoil(count: int) -> None:
        if not asked:
            asked.append(proxy.connections)
            proxy.always = answered("403 Forbidden")

    with pytest.raises(WriteError, match="denies access"):
        move(folder, target, progress=spoil)
    # One request was refused; what comes after is the end of the run, and asks once each.
    assert proxy.connections - asked[0] <= 3


def test_a_server_says_how_long_to_wait(places: Places, engine: Engine) -> None:
    folder, target, proxy = places
    times: list[float] = []

    def spoil(count: int) -> None:
        if not times:
            times.append(time.monotonic())
            proxy.faults.append(answered("503 Service Unavailable", "Retry-After: 2"))
        elif len(times) == 1:
            times.append(time.monotonic())

    move(folder, target, progress=spoil)
    assert times[1] - times[0] >= 2


def test_a_flapping_server_is_left_alone(places: Places, engine: Engine) -> None:
    folder, target, proxy = places
    odd = answered("503 Service Unavailable")

    def flap(client: socket.socket, server: socket.socket) -> None:
        (odd if proxy.connections % 2 else proxy.passed)(client, server)

    move(folder, target)  # Whole, so that the circuit alone is what ends the reading below.
    proxy.always = flap
    asked: list[int] = []

    def ask(source: Source) -> None:
        for number in range(200):
            asked.append(number)
            source.fetch([1])

    with (
        patience(0),
        open_source(target) as source,
        pytest.raises(UnreachableError, match=r"failed \d+ of \d+ requests and is left alone"),
    ):
        ask(source)
    assert len(asked) < 2 * MOST


def test_a_circuit_stands_a_failure_now_and_then() -> None:
    circuit = Circuit()
    for _ in range(1000):
        circuit.failed_once()
        for _ in range(11):
            circuit.succeeded()
    assert not circuit.is_open
    for _ in range(int(MOST)):
        circuit.failed_once()
    assert circuit.is_open
    circuit.succeeded()
    assert circuit.is_open


def test_a_rate_is_kept(folder: Path) -> None:
    begun = time.monotonic()
    move(folder, f"faiss:{folder}/new.faiss", max_rate=40)
    assert time.monotonic() - begun >= COUNT / 40 - 0.01
    with open_source(f"faiss:{folder}/new.faiss") as target:
        assert target.describe().count == COUNT


def test_a_pace_lets_go_of_a_run_that_is_to_end() -> None:
    begun = time.monotonic()
    Pace(1, lambda: True).passed(1000)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(("rate", "size"), [(None, 4096), (100.0, 100), (0.5, 1), (1e6, 4096)])
def test_a_batch_is_no_more_than_a_second(rate: float | None, size: int) -> None:
    assert Pace(rate).batch_size(4096) == size


REFUSED = {31, 34, 100}  # Two of one batch, and one of another.


@pytest.fixture
def picky(engine: Engine) -> Engine:
    """An engine that refuses some points for what they hold, as a schema check would."""
    upsert = engine.local.upsert

    def refusing(name: str, points: models.Batch) -> models.UpdateResult:
        if refused := REFUSED & set(points.ids):
            raise ValueError(f"Wrong input: {len(refused)} payloads are not allowed")
        return upsert(name, points)

    engine.local.upsert = refusing  # type: ignore[method-assign, assignment]
    return engine


def test_a_refused_point_is_named(places: Places, picky: Engine) -> None:
    folder, target, _ = places
    with pytest.raises(RefusedError, match=r"point 31 was refused.*not allowed"):
        move(folder, target)
    assert is_unfinished(target)


@pytest.mark.parametrize("stop_first", [False, True])
def test_refused_points_are_set_aside_and_the_rest_arrives(
    places: Places, picky: Engine, stop_first: bool
) -> None:
    folder, target, _ = places
    source = f"faiss:{folder}/old.faiss"
    if stop_first:
        with pytest.raises(RefusedError):
            move(folder, target)
        with pytest.raises(TerminatedError):
            move(
                folder, target, on_bad_point="quarantine", stop=lambda: len(letters_of(folder)) > 1
            )
        assert [letter["id"] for letter in letters_of(folder)] == [31, 34]
    move(folder, target, on_bad_point="quarantine")
    letters = letters_of(folder)
    assert [letter["id"] for letter in letters] == sorted(REFUSED)
    assert all("not allowed" in letter["reason"] for letter in letters)
    assert [letter["payload"].get("n") for letter in letters] == [None, 11, 33]
    payloads, _ = held(picky)
    assert set(payloads) == {i * 3 + 1 for i in range(COUNT)} - REFUSED

    translator = folder / "translator"
    assert not verify(source, target, translator).passed
    [path] = (folder / "dead-letters").iterdir()
    found = verify(source, target, translator, VerifyOptions(full=True, dead_letters=path))
    assert found.passed, found.checks
    assert any(str(len(REFUSED)) in check.summary for check in found.checks)


def letters_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in (folder / "dead-letters").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def test_a_store_that_refuses_everything_is_at_fault_itself(places: Places, engine: Engine) -> None:
    folder, target, proxy = places

    def refuse(name: str, points: models.Batch) -> models.UpdateResult:
        raise ValueError("Wrong input: nothing is allowed")

    engine.local.upsert = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(RefusedError, match="more than 5 points were refused"):
        move(folder, target, on_bad_point="quarantine", max_dead_letters=5)
    assert len(letters_of(folder)) == 5
    assert proxy.connections < 60


def test_a_letter_that_a_kill_cut_short_is_written_again(tmp_path: Path) -> None:
    point = VectorBatch(np.array([7]), np.ones((1, 3), np.float32), [{"text": "ü"}])
    path = tmp_path / "letters.jsonl"
    DeadLetters(path, "a").add(point, "no")
    with path.open("ab") as file:
        file.write(b'{"run": "a", "id": 8')
    letters = DeadLetters(path, "a")
    assert letters.ids == [7]
    letters.add(point.take(np.array([0])), "again")
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == ["no", "again"]
    assert DeadLetters(path, "b").ids == []
    path.write_text("something else\n")
    with pytest.raises(InputError, match="dead letters"):
        DeadLetters(path, "a")
