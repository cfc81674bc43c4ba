"""What only a server shows: faults that pass or stay, keys, gRPC, limits, indexing."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import vecmigrate_qdrant.indexing
import vecmigrate_qdrant.server.access
import vecmigrate_qdrant.upserting
from qdrant_client import models
from qdrant_client.qdrant_remote import QdrantRemote
from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RestServer
from support.qdrant.places import DIMENSION, open_place, params, points
from vecmigrate_qdrant.switcher import QdrantSwitcher

from vecmigrate import open_sink, open_source, patience, resume_sink
from vecmigrate.connector import (
    InputError,
    Metric,
    MismatchError,
    TargetExistsError,
    TargetSpec,
    UnreachableError,
    UsageError,
    VectorBatch,
    WriteError,
    parse_uri,
)
from vecmigrate.connector.addresses import collection_of
from vecmigrate.cutover import cut_over, roll_back

SPEC = TargetSpec(dimension=DIMENSION, metric=Metric.DOT)
KEY = "k3y-that-nobody-may-see"


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture(params=["rest", "grpc"])
def server(request: pytest.FixtureRequest, engine: Engine) -> Iterator[str]:
    """The part of a URI before the collection, and with ``{}`` in the collection's place."""
    with RestServer(engine) as rest, GrpcServer(engine) as grpc:
        how = "grpc=false" if request.param == "rest" else f"grpc_port={grpc.port}"
        yield f"qdrant://127.0.0.1:{rest.port}/{{}}?{how}&retries=2"


def filled(engine: Engine, name: str = "docs", count: int = 5) -> None:
    engine.create(name, models.CreateCollection(vectors=params()))
    batch = points(list(range(count)))
    assert batch.payloads is not None
    engine.local.upsert(
        name,
        models.Batch(
            ids=batch.ids.tolist(),
            vectors=batch.vectors.tolist(),
            payloads=[dict(p) for p in batch.payloads],
        ),
    )


def test_faults_that_pass_are_waited_out(engine: Engine, server: str) -> None:
    filled(engine)
    with open_source(server.format("docs")) as source:
        engine.faults.extend([503, 503])
        assert sum(len(b) for b in source.batches(10)) == 5
        assert engine.faults == type(engine.faults)()


def test_one_client_reaches_all_of_a_server(
    engine: Engine, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on until the last who has it lets go."""
    made = []

    class Counted(QdrantRemote):
        def __init__(self, *given: Any, **more: Any) -> None:
            made.append(self)
            super().__init__(*given, **more)

    monkeypatch.setattr(vecmigrate_qdrant.server.access, "QdrantRemote", Counted)
    filled(engine)
    filled(engine, "others")
    one, two = open_source(server.format("docs")), open_source(server.format("others"))
    one.close()
    one.close()
    assert sum(len(b) for b in two.batches(10)) == 5
    assert len(made) == 1
    with open_source(server.format("docs") + "&timeout=5"):
        assert len(made) == 2
    two.close()
    with open_source(server.format("docs")) as again:
        assert sum(len(b) for b in again.batches(10)) == 5
    assert len(made) == 3


def test_writes_are_repeated_after_faults_that_pass(engine: Engine, server: str) -> None:
    with open_sink(server.format("new"), SPEC) as sink:
        engine.faults.append(503)
        sink.write(points([1, 2]))
        engine.faults.append(503)
        assert sink.finish().count == 2


def test_faults_that_stay_are_given_up(engine: Engine, server: str) -> None:
    filled(engine)
    with open_source(server.format("docs")) as source:
        engine.faults.extend([503] * 9)
        engine.served.clear()
        with patience(0), pytest.raises(UnreachableError, match=r"127\.0\.0\.1.*not ready"):
            list(source.batches(10))
    assert len(engine.served) == 3


@pytest.mark.parametrize("status", [400, 404, 500])
def test_refusals_are_not_repeated(engine: Engine, status: int) -> None:
    filled(engine)
    with (
        RestServer(engine) as rest,
        open_source(f"qdrant://127.0.0.1:{rest.port}/docs") as source,
    ):
        engine.faults.append(status)
        engine.served.clear()
        with pytest.raises(InputError, match=f"HTTP {status}: service is not ready"):
            list(source.batches(10))
    assert len(engine.served) == 1


def test_a_creation_whose_answer_was_lost_is_recognised(engine: Engine, server: str) -> None:
    engine.lost = True
    with open_sink(server.format("new"), SPEC) as sink:
        sink.write(points([1]))
        assert sink.finish().count == 1
    assert not engine.lost


def test_a_target_that_somebody_else_makes_meanwhile_is_left_alone(engine: Engine) -> None:
    class Racing(Engine):
        def create(self, name: str, body: models.CreateCollection) -> None:
            if not self.local.collection_exists(name):
                super().create(name, models.CreateCollection(vectors=params(2)))
            super().create(name, body)

    racing = Racing()
    with RestServer(racing) as rest:
        with pytest.raises(TargetExistsError, match="somebody else"):
            open_sink(f"qdrant://127.0.0.1:{rest.port}/new?retries=0", SPEC)
        assert racing.info("new").config.params.vectors == params(2)


@pytest.mark.parametrize("options", ["grpc=false", "grpc=true"])
def test_a_closed_port_is_unreachable(options: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound and not listening: nobody answers here.
        port = unused.getsockname()[1]
        uri = f"qdrant://127.0.0.1:{port}/docs?{options}&grpc_port={port}&retries=1"
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}.*does not answer"):
            open_source(uri)
        with pytest.raises(UnreachableError):
            open_sink(uri, SPEC)
    assert time.monotonic() - began < 60


def test_silence_is_unreachable_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="Timeout"):
            open_source(f"qdrant://127.0.0.1:{port}/docs?timeout=1&retries=0")
    assert 0.9 < time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, b"<html>welcome</html>"),
        (200, b'{"version": {"number": "8.0.0"}}'),
        (302, b""),
        (404, b"<html>not found</html>"),
        (404, b""),
        (405, b'{"detail": "Method Not Allowed"}'),
        (500, b'{"status": "red"}'),
    ],
)
def test_a_server_that_is_no_qdrant_is_told(status: int, said: bytes) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages:
        thread = threading.Thread(target=pages.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        with pytest.raises(InputError, match="does not answer as a Qdrant server"):
            open_source(f"qdrant://127.0.0.1:{pages.server_address[1]}/docs")
        pages.shutdown()
        thread.join()


@contextmanager
def guarded(how: str, reader_key: str | None = None) -> Iterator[str]:
    engine = Engine(key=KEY)
    engine.reader_key = reader_key
    filled(engine)
    with RestServer(engine) as rest, GrpcServer(engine) as grpc:
        options = "grpc=false" if how == "rest" else f"grpc_port={grpc.port}"
        yield f"qdrant://127.0.0.1:{rest.port}/{{}}?{options}"


@pytest.mark.parametrize("how", ["rest", "grpc"])
def test_keys_come_from_the_environment_and_are_never_shown(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wr0ng-key-that-nobody-may-see"
    with guarded(how) as uri:
        monkeypatch.delenv("QDRANT_API_KEY", raising=False)
        with pytest.raises(InputError, match=r"denies access.*QDRANT_API_KEY"):
            open_source(uri.format("docs"))
        monkeypatch.setenv("MINE", wrong)
        monkeypatch.setenv("QDRANT_API_KEY", KEY)
        named = uri.format("new") + "&api_key_env=MINE"
        with pytest.raises(WriteError, match=r"denies access.*MINE") as raised:
            open_sink(named, SPEC)
        with pytest.raises(UsageError, match="UNSET_VARIABLE"):
            open_source(uri.format("docs") + "&api_key_env=UNSET_VARIABLE")
        with open_source(uri.format("docs")) as source, open_sink(uri.format("new"), SPEC) as sink:
            sink.write(points([1]))
            shown = [source.describe().model_dump_json(), sink.finish().model_dump_json()]
            shown += [repr(source), repr(vars(source)), repr(vars(sink)), caplog.text]
        shown += [str(raised.value), repr(raised.value)]
    assert all(KEY not in text and wrong not in text for text in shown)


@pytest.mark.parametrize("how", ["rest", "grpc"])
def test_readers_are_moved_by_the_key_of_their_name(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANAGE", KEY)
    monkeypatch.setenv("READ", "may-only-read")
    state = sqlite3.connect(":memory:")
    with guarded(how, "may-only-read") as uri:
        for new in ("one", "two"):
            with open_sink(uri.format(new) + "&api_key_env=MANAGE", SPEC) as sink:
                sink.finish()
        name = uri.format("live")
        one, two = (uri.format(new) + "&api_key_env=READ" for new in ("one", "two"))
        for target in (one, two):
            cut_over(name + "&api_key_env=MANAGE", target, state, unverified=True)
        managed = one.replace("READ", "MANAGE")
        with pytest.raises(WriteError, match="denies access"):
            cut_over(name + "&api_key_env=READ", managed, state, unverified=True)
        with pytest.raises(WriteError, match="denies access"):
            roll_back(name + "&api_key_env=READ", state)
        current = QdrantSwitcher().current(parse_uri(name + "&api_key_env=READ"))
        assert current is not None
        assert "/two?" in current
        roll_back(name + "&api_key_env=MANAGE", state)
        current = QdrantSwitcher().current(parse_uri(name + "&api_key_env=READ"))
        assert current is not None
        assert "/one?" in current


@pytest.mark.parametrize("how", ["rest", "grpc"])
def test_the_key_of_a_target_does_not_see_where_an_alias_leads(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the name alone does, and is asked; the target's may be for its collection alone."""
    monkeypatch.setenv("MANAGE", KEY)
    monkeypatch.setenv("NONE", "opens-nothing")
    with guarded(how) as uri:
        for new in ("one", "two"):
            with open_sink(uri.format(new) + "&api_key_env=MANAGE", SPEC) as sink:
                sink.finish()
        switcher, name = QdrantSwitcher(), parse_uri(uri.format("live") + "&api_key_env=MANAGE")
        for new in ("one", "two"):
            target = parse_uri(uri.format(new) + "&api_key_env=NONE")
            switcher.check(name, target)
            switcher.switch(name, target)
            assert f"/{new}?" in str(switcher.current(name))


def test_a_server_that_keeps_no_metadata_is_refused_and_left_as_it_was() -> None:
    engine = Engine(keeps_metadata=False)
    with RestServer(engine) as rest, pytest.raises(MismatchError, match=r"1\.16"):
        open_sink(f"qdrant://127.0.0.1:{rest.port}/new", SPEC)
    assert engine.local.get_collections().collections == []


def test_grpc_is_used_where_it_is_offered_and_rest_elsewhere_with_a_note(engine: Engine) -> None:
    filled(engine)
    with RestServer(engine) as rest, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"qdrant://127.0.0.1:{rest.port}/docs"
        with GrpcServer(engine) as grpc, open_source(f"{uri}?grpc_port={grpc.port}") as source:
            assert source.describe().notes == ()
            assert any(what.startswith("gRPC") for what in engine.served)
        closed = unused.getsockname()[1]
        with open_source(f"{uri}?grpc_port={closed}") as source:
            assert f"gRPC does not answer on port {closed}" in source.describe().notes[0]
            assert len(list(source.batches(10))) == 1
        engine.served.clear()
        # Which gRPC port goes with a REST port of one's own is not known.
        with open_source(uri) as source:
            assert source.describe().notes == ()
        assert not any(what.startswith("gRPC") for what in engine.served)


def test_a_path_prefix_stands_before_every_request(engine: Engine) -> None:
    """As an ingress has it, which takes the prefix off; names may hold what a URI reserves."""
    seen: list[str] = []

    with RestServer(engine) as rest:
        plain = rest.server.RequestHandlerClass

        class Ingress(plain):  # type: ignore[misc, valid-type]
            def answer(self) -> None:
                seen.append(self.path)
                self.path = self.path.removeprefix("/search/eu%20west")
                super().answer()

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        rest.server.RequestHandlerClass = Ingress
        base = f"qdrant://127.0.0.1:{rest.port}/search/eu%20west"
        with open_sink(f"{base}/{quote('süd 100%')}", SPEC) as sink:
            sink.write(points([1, 2]))
            assert sink.finish().count == 2
        switcher = QdrantSwitcher()
        alias, target = parse_uri(f"{base}/live"), parse_uri(f"{base}/{quote('süd 100%')}")
        switcher.switch(alias, target)
        assert switcher.current(alias) == collection_of(str(target))
        with open_source(str(switcher.current(alias))) as source:
            assert sum(map(len, source.batches(10))) == 2
    assert seen
    assert all(path.startswith("/search/eu%20west/") for path in seen)
    assert engine.local.collection_exists("süd 100%")


def test_requests_stay_below_the_servers_limit(
    engine: Engine, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vecmigrate_qdrant.upserting, "REQUEST_BYTES", 20_000)
    batch = points(list(range(40)))
    payloads: list[dict[str, Any]] = [
        {"text": "é" * 3000 if i % 10 == 0 else "é"} for i in range(40)
    ]
    payloads[7] = {"text": "x" * 30_000}  # By itself beyond the limit: left to the server to judge.
    with open_sink(server.format("new"), SPEC) as sink:
        sink.write(VectorBatch(batch.ids, batch.vectors, payloads))
        assert sink.finish().count == 40
    upserts = [what for what in engine.served if what.endswith(("Upsert", "/points"))]
    assert 3 < len(upserts) < 12
    assert engine.largest < 35_000
    with open_source(server.format("new")) as source:
        found = source.fetch(list(range(40)))
    assert found.payloads == payloads
    np.testing.assert_array_equal(found.vectors, batch.vectors)


def test_indexing_is_waited_for_within_bounds(
    engine: Engine, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vecmigrate_qdrant.indexing, "POLL_SECONDS", 0.02)
    engine.status = models.CollectionStatus.YELLOW
    with open_sink(server.format("slow"), SPEC) as sink:
        timer = threading.Timer(0.2, setattr, (engine, "status", models.CollectionStatus.GREEN))
        timer.start()
        assert sink.finish().notes == ()
        timer.join()
    engine.status = models.CollectionStatus.YELLOW
    monkeypatch.setattr(vecmigrate_qdrant.indexing, "STALLED_SECONDS", 0.1)
    with open_sink(server.format("slower"), SPEC) as sink:
        assert sink.finish().notes
    engine.status = models.CollectionStatus.RED
    with open_sink(server.format("broken"), SPEC) as sink, pytest.raises(WriteError, match="index"):
        sink.finish()
    assert not engine.local.collection_exists("broken")


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_indexing_is_put_off_until_all_points_are_there(kind: str, tmp_path: Path) -> None:
    """Also where another process goes on; what was set before is set again."""

    def threshold() -> int | None:
        with place.client() as client:
            return client.get_collection(name).config.optimizer_config.indexing_threshold

    with open_place(kind, tmp_path) as place:
        source, name = place.name("source"), place.name()
        with place.client() as client:
            client.create_collection(
                source,
                params(),
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=4321),
            )
        with open_source(place.uri(source)) as opened:
            spec = TargetSpec.like(opened.describe())
        with open_sink(place.uri(name), spec) as sink:
            assert threshold() == 0
            sink.write(points([1, 2, 3]))
            token = sink.checkpoint()
            assert token is not None
            sink.suspend()
        assert threshold() == 0
        with open_source(place.uri(name)) as opened:
            described = opened.describe()
        # What vecmigrate sets for a while is none of the collection's own settings.
        optimizers = described.settings["optimizers_config"]
        assert isinstance(optimizers, dict)
        assert optimizers["indexing_threshold"] == 4321
        assert any("unfinished" in note for note in described.notes)
        with resume_sink(place.uri(name), spec, token) as sink:
            sink.write(points([4]))
            sink.finish()
        assert threshold() == 4321
        with place.client() as client:
            assert client.count(name).count == 4


@pytest.mark.parametrize("readers", [1, 2, 7])
@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_pages_read_at_once_come_in_order(kind: str, readers: int, tmp_path: Path) -> None:
    """Whatever the order in which the server answers; and from any cursor."""
    ids = [*range(0, 400, 3), *(str(uuid.UUID(int=i << 90)) for i in range(1, 100))]
    with open_place(kind, tmp_path) as place:
        name = place.name()
        place.write(name, points(ids))
        with open_source(place.uri(name, f"readers={readers}")) as source:
            whole = list(source.batches(17))
            assert [i for batch in whole for i in batch.ids] == ids
            expected = points(ids)
            np.testing.assert_allclose(
                np.concatenate([batch.vectors for batch in whole]), expected.vectors
            )
            assert [p for batch in whole for p in batch.each_payload()] == expected.payloads
            rest = list(source.batches(17, cursor=whole[3].cursor))
            assert [b.ids.tolist() for b in rest] == [b.ids.tolist() for b in whole[4:]]
            some = source.batches(17)
            assert next(some).ids.tolist() == whole[0].ids.tolist()
            some.close()
