"""A server that goes away after it has answered is waited for, visibly, and within bounds."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from qdrant_client import models
from support.qdrant.loopback.grpc_server import GrpcServer
from support.qdrant.loopback.server import Engine, RestServer
from support.qdrant.places import params, points
from support.tcp_proxy import Proxy, answered
from typer.testing import CliRunner

from vecmigrate import open_source, patience
from vecmigrate.cli import app
from vecmigrate.cli.output import Output
from vecmigrate.connector import (
    Waiting,
    is_known,
    map_in_parallel,
    parse_duration,
    patience_seconds,
)
from vecmigrate.errors import ExitCode, TerminatedError, UnreachableError, UsageError
from vecmigrate.jobs import JobSpec, load_job
from vecmigrate.jobs.run import run_job
from vecmigrate.jobs.steps.base import Step
from vecmigrate.runtime.durations import duration_text
from vecmigrate.runtime.threads import prefetch
from vecmigrate.runtime.waiting import (
    Patience,
    adopt,
    current_patience,
    unwanted_when,
    waits_told_to,
)

COUNT = 60
SOON = 60.0
"""Seconds that are far more than what is tested takes, and far less than what is waited for."""


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    engine.create("docs", models.CreateCollection(vectors=params()))
    batch = points(list(range(COUNT)))
    engine.local.upsert(
        "docs", models.Batch(ids=batch.ids.tolist(), vectors=batch.vectors.tolist())
    )
    return engine


@pytest.fixture(params=["rest", "grpc"])
def place(request: pytest.FixtureRequest, engine: Engine) -> Iterator[tuple[str, Proxy]]:
    """A collection's URI without retries of its own, and the proxy before its server."""
    with ExitStack() as stack:
        rest = stack.enter_context(RestServer(engine))
        if request.param == "rest":
            proxy = stack.enter_context(Proxy(rest.port))
            yield f"qdrant://127.0.0.1:{proxy.port}/docs?grpc=false&retries=0&readers=2", proxy
            return
        server = stack.enter_context(GrpcServer(engine))
        proxy = stack.enter_context(Proxy(server.port))
        options = f"grpc=true&grpc_port={proxy.port}&retries=0&readers=2"
        yield f"qdrant://127.0.0.1:{rest.port}/docs?{options}", proxy


def ids_of(uri: str, meanwhile: Callable[[], None]) -> list[object]:
    """Read a collection, with something happening once it was described."""
    with open_source(uri) as source:
        source.describe()
        meanwhile()
        return [i for batch in source.batches(7) for i in batch.ids.tolist()]


def test_a_server_that_comes_back_is_waited_for_and_nothing_is_lost(
    place: tuple[str, Proxy],
) -> None:
    uri, proxy = place
    told: list[str | None] = []

    def tell(line: str | None) -> None:
        told.append(line)
        if proxy.is_away:
            proxy.back()

    with patience("10m"), waits_told_to(tell):
        assert ids_of(uri, proxy.leave) == list(range(COUNT))
    assert not proxy.is_away
    assert told[-1] is None
    lines = [line for line in told if line is not None]
    assert lines
    assert all("127.0.0.1" in line and " s of 10m (" in line for line in lines)


def test_a_server_opened_anew_while_it_is_away_is_waited_for(place: tuple[str, Proxy]) -> None:
    """By gRPC too, if it was found by gRPC before."""
    uri, proxy = place
    uri = uri.replace("grpc=true&", "")
    with open_source(uri) as source:
        notes = source.describe().notes

    def tell(line: str | None) -> None:
        if proxy.is_away:
            proxy.back()

    proxy.leave()
    with patience("10m"), waits_told_to(tell), open_source(uri) as source:
        assert source.describe().notes == notes
    assert not proxy.is_away


@pytest.mark.parametrize("retries", [0, 50], ids=["without retries", "with retries"])
def test_a_server_that_stays_away_is_given_up_in_time(
    place: tuple[str, Proxy], retries: int
) -> None:
    uri, proxy = place
    with patience(2), open_source(uri.replace("retries=0", f"retries={retries}")) as source:
        source.describe()
        proxy.leave()
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="waited for in vain, 2 seconds"):
            list(source.batches(7))
        assert 1.9 < time.monotonic() - began < SOON
        # What is done to clean up does not wait as long again.
        with patience("10m"), pytest.raises(UnreachableError):
            source.fetch([1])
    assert time.monotonic() - began < SOON


def test_wait_bounds_a_first_contact(place: tuple[str, Proxy]) -> None:
    """Its retries would take some minutes; both are told as what they are."""
    uri, proxy = place
    proxy.leave()
    told: list[str | None] = []
    began = time.monotonic()
    with patience(2), waits_told_to(told.append), pytest.raises(UnreachableError) as raised:
        open_source(uri.replace("retries=0", "retries=18"))
    assert 1.9 < time.monotonic() - began < SOON
    assert "went away" not in raised.value.message
    lines = [line for line in told if line is not None]
    assert lines
    assert all(" s of 2s (" in line for line in lines), lines


def test_a_first_contact_is_told_how_long_it_takes_at_most(place: tuple[str, Proxy]) -> None:
    uri, proxy = place
    proxy.leave()
    told: list[str | None] = []
    with waits_told_to(told.append), pytest.raises(UnreachableError):
        open_source(uri.replace("retries=0", "retries=3"))
    lines = [line for line in told if line is not None]
    assert lines
    # 0.25, 0.5 and 1 second, and what chance adds.
    assert all(" s of 2s (" in line for line in lines), lines


@pytest.mark.parametrize("wait", ["0", 0, 0.0])
def test_no_patience_is_to_fail_at_once(place: tuple[str, Proxy], wait: str | float) -> None:
    uri, proxy = place
    told: list[str | None] = []
    with patience(wait), waits_told_to(told.append), pytest.raises(UnreachableError):
        ids_of(uri, proxy.leave)
    assert told == []


def test_a_server_that_never_answered_is_not_waited_for(place: tuple[str, Proxy]) -> None:
    uri, proxy = place
    proxy.leave()
    began = time.monotonic()
    with patience("10m"), pytest.raises(UnreachableError):
        open_source(uri)
    assert time.monotonic() - began < SOON


def test_waiting_ends_once_the_run_is_to_end(place: tuple[str, Proxy]) -> None:
    uri, proxy = place
    asked = threading.Event()
    began = time.monotonic()
    with (
        patience("10m"),
        waits_told_to(lambda line: asked.set()),
        unwanted_when(asked.is_set),
        pytest.raises(TerminatedError),
    ):
        ids_of(uri, proxy.leave)
    assert time.monotonic() - began < SOON


def test_waiting_ends_with_who_wanted_it(place: tuple[str, Proxy]) -> None:
    """As after Ctrl-C: what reads ahead, in threads of threads, is joined at once."""
    uri, proxy = place
    waits = threading.Event()
    with patience("10m"), waits_told_to(lambda line: waits.set()), open_source(uri) as source:
        ahead = prefetch(source.batches(7), depth=1)
        next(ahead)
        proxy.leave()
        while not waits.wait(0.01):
            pass
        began = time.monotonic()
        ahead.close()  # type: ignore[attr-defined]
        assert time.monotonic() - began < SOON


def test_threads_of_a_pool_stop_waiting_with_the_consumer() -> None:
    begun = threading.Event()

    def work(number: int) -> int:
        if number:
            with Waiting("a server", None) as waiting:
                begun.set()
                waiting.pause(600, "it is away")
        return number

    answers = map_in_parallel(work, count(), 2, name="t")
    assert next(answers) == 0
    assert begun.wait(SOON)
    began = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < SOON


def test_a_rate_limit_is_no_absence(engine: Engine) -> None:
    """It is waited for without patience and without retries, and told as what it is."""
    told: list[str | None] = []
    with RestServer(engine) as rest, Proxy(rest.port) as proxy:
        limited = answered("429 Too Many Requests", "Retry-After: 2")
        uri = f"qdrant://127.0.0.1:{proxy.port}/docs?grpc=false&retries=0&readers=1"

        def limit() -> None:
            proxy.cut()
            proxy.faults.extend([limited] * 2)

        began = time.monotonic()
        with patience(0), waits_told_to(told.append):
            ids = ids_of(uri, limit)
    assert ids == list(range(COUNT))
    assert time.monotonic() - began >= 4
    assert told[-1] is None
    lines = [line for line in told if line is not None]
    assert lines
    assert all("rate limit" in line and " s left (" in line for line in lines)


def test_the_wait_of_one_process_is_that_of_another() -> None:
    before = current_patience()
    try:
        adopt(Patience(7.0, frozenset({"http://elsewhere:1"})))
        assert patience_seconds() == 7.0
        assert is_known("http://elsewhere:1")
        with patience("1m", unless_said=True):
            assert patience_seconds() == 7.0
        with patience("1m"), patience(None):
            assert patience_seconds() == 60.0
        assert patience_seconds() == 7.0
    finally:
        adopt(Patience(before.seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604800),
        ("0", 0),
        ("30s", 30),
        ("2.5s", 2.5),
        ("5m", 300),
        ("1h30m", 5400),
        (" 45 ", 45),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    if seconds == int(seconds):
        assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "five", "-1", "m", "5m 3x", "٣s", "1.5h", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError), patience(text):
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_line_tells_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Output(as_json=False, quiet=False) as out, out.progress("migrating", 10) as advance:
        advance(1)
        with Waiting("http://one:6333", 300.0) as waiting:
            waiting.pause(1.2, "it is away")
        begun = len(terminal.getvalue())
        advance(9)
    before, after = terminal.getvalue()[:begun], terminal.getvalue()[begun:]
    assert "waiting for http://one:6333, 1 s of 5m (it is away)" in before
    assert "waiting" not in after


@pytest.mark.parametrize(
    ("arguments", "variable", "code"),
    [
        ([], None, ExitCode.OK),
        (["--wait", "1m"], "0", ExitCode.OK),
        (["--wait", "0"], "1m", ExitCode.UNREACHABLE),
        ([], "0", ExitCode.UNREACHABLE),
        (["--wait", "soon"], None, ExitCode.USAGE),
    ],
)
def test_the_command_line_says_how_long_to_wait(
    engine: Engine, arguments: list[str], variable: str | None, code: ExitCode
) -> None:
    with RestServer(engine) as rest:
        uri = f"qdrant://127.0.0.1:{rest.port}/docs?retries=0"
        open_source(uri).close()
        engine.faults.extend([503] * 4)
        done = CliRunner().invoke(
            app, ["inspect", uri, *arguments], env={"VECMIGRATE_WAIT": variable}
        )
        assert done.exit_code == code, done.output
        waited = f"waiting for http://127.0.0.1:{rest.port}, " in done.stderr
        assert waited == (code is ExitCode.OK)
        assert bool(engine.faults) == (code is not ExitCode.OK)
    assert current_patience().seconds is None


@pytest.mark.parametrize("wait", ["soon", "-5m"])
def test_a_job_that_does_not_say_how_long_is_refused(tmp_path: Path, wait: str) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        f'wait = "{wait}"\n[source]\nuri = "faiss:a"\n[target]\nuri = "faiss:b"\nencoder = "e"\n'
    )
    with pytest.raises(UsageError, match="wait"):
        load_job(job)


@pytest.mark.parametrize(("said", "expected"), [(None, 2.0), ("3s", 3.0)])
def test_a_job_says_how_long_to_wait_unless_the_command_does(
    tmp_path: Path, said: str | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []

    class LookedError(Exception):
        pass

    def look(*_: object, **__: object) -> list[Step]:
        found.append(patience_seconds())
        raise LookedError

    monkeypatch.setattr("vecmigrate.jobs.run.steps_of", look)
    spec = JobSpec.model_validate(
        {"source": {"uri": "faiss:a"}, "target": {"uri": "faiss:b", "encoder": "e"}, "wait": "2s"}
    )
    with patience(said), pytest.raises(LookedError):
        run_job(spec, tmp_path / "state.sqlite")
    assert found == [expected]
