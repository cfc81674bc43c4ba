"""A target on a Qdrant server is one run's at a time; what a run that is gone left, another takes.

Another machine is a lease in the target that tells of one: Qdrant knows no more of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.forked import Forked
from support.qdrant.in_place import FEW, NEW, fill, saved, uris
from support.qdrant.places import PLACES, SERVED, Place, open_place, points
from typer.testing import CliRunner
from vecmigrate_qdrant.marks import LEASE_KEY

from vecmigrate import migrate, open_sink, open_source, resume_sink
from vecmigrate.cli import app
from vecmigrate.connector import LockedError, Metric, TargetExistsError, TargetSpec, UsageError
from vecmigrate.connector.lease import VARIABLE
from vecmigrate.errors import ExitCode, TerminatedError
from vecmigrate.verification import VerifyOptions, verify

LONGEST_SECONDS = 60.0
HOLDER = """
import os, sys
from vecmigrate import open_sink
from vecmigrate.connector import TargetSpec
sink = open_sink(sys.argv[1], TargetSpec.model_validate_json(sys.argv[2]))
print(sink.checkpoint(), flush=True)
sys.stdin.read()
os._exit(9)
"""


@dataclass
class Target:
    """A collection, or a vector of one, that a run writes.

    Attributes
    ----------
    name
        The collection's.
    """

    place: Place
    name: str
    uri: str
    spec: TargetSpec
    key: str

    def metadata(self) -> dict[str, Any]:
        with self.place.client() as client:
            return dict(client.get_collection(self.name).config.metadata or {})

    def is_there(self) -> bool:
        with self.place.client() as client:
            vectors = client.get_collection(self.name).config.params.vectors
        return self.key == LEASE_KEY or (isinstance(vectors, dict) and "new" in vectors)

    def change(self, **changes: Any) -> None:
        """Change the lease as another machine would."""
        lease = self.metadata()[self.key]
        with self.place.client() as client:
            client.update_collection(self.name, metadata={self.key: {**lease, **changes}})

    def batch(self, ids: list[int]) -> Any:
        return points(list(ids), dimension=NEW)

    @contextmanager
    def written_elsewhere(self) -> Iterator[tuple[Forked, str]]:
        """Another process that writes it until its input ends, and its checkpoint."""
        with Forked("-c", HOLDER, self.uri, self.spec.model_dump_json()) as process:
            try:
                yield process, process.stdout.readline().strip()
            finally:
                process.kill()

    def left_behind(self) -> str:
        """A checkpoint of a process that was killed while it wrote."""
        with self.written_elsewhere() as (process, token):
            process.kill()
            process.wait()
        assert self.key in self.metadata()
        return token


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=["collection", "in place"])
def target(request: pytest.FixtureRequest, place: Place) -> Target:
    spec = TargetSpec(dimension=NEW, metric=Metric.COSINE, work="the work")
    if request.param == "collection":
        name = place.name()
        return Target(place, name, place.uri(name), spec, LEASE_KEY)
    name = fill(place, 100)
    return Target(place, name, uris(place, name)[1], spec, f"{LEASE_KEY}:new")


def until(open_it: Callable[[], Any]) -> Any:
    """What ``open_it`` returns, once no lease keeps it from that."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            return open_it()
        except LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def all_refused(target: Target, token: str) -> None:
    """Neither a new run nor one that begins anew or continues may write."""
    for restart in (False, True):
        with pytest.raises(LockedError):
            open_sink(target.uri, target.spec, restart=restart)
    with pytest.raises(LockedError):
        resume_sink(target.uri, target.spec, token)


def test_what_a_process_here_writes_is_its_own_until_it_ends(target: Target) -> None:
    with target.written_elsewhere() as (process, token):
        before = target.metadata()
        with pytest.raises(LockedError, match=f"process {process.pid} on "):
            open_sink(target.uri, target.spec)
        all_refused(target, token)
        assert target.metadata().keys() == before.keys()
        assert target.metadata()[target.key]["id"] == before[target.key]["id"]
        process.kill()
        process.wait()
    # At once: by its time the lease would live for two minutes more.
    with resume_sink(target.uri, target.spec, token) as sink:
        sink.write(target.batch([1, 2]))
        sink.finish()
    assert target.key not in target.metadata()


def test_what_another_machine_writes_is_its_own_while_it_lives(target: Target) -> None:
    token = target.left_behind()
    target.change(machine="another")
    all_refused(target, token)


@pytest.mark.parametrize("hours", [0, -24, 24])
def test_the_lease_of_a_machine_that_is_gone_ends(target: Target, hours: int) -> None:
    """Whatever its clock said."""
    token = target.left_behind()
    seen = int(time.time()) + hours * 3600
    target.change(machine="another", seconds=1.0, seen=seen)
    with until(lambda: resume_sink(target.uri, target.spec, token)) as sink:
        sink.write(target.batch([1]))
        sink.finish()
    assert target.key not in target.metadata()


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_wrong_ends_no_lease(
    target: Target, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign of life that comes while the lease is watched counts, whatever its date."""
    token = target.left_behind()
    seen = int(time.time()) + hours * 3600
    target.change(machine="another", seen=seen, seconds=2 * LONGEST_SECONDS)
    signs = [0]

    def live(*_: Any) -> None:
        signs[0] += 1
        target.change(signs=1000 + signs[0])

    # In the place of the watcher's sleep, so that the sign surely comes meanwhile.
    monkeypatch.setattr("vecmigrate.connector.lease.Waiting.pause", live)
    all_refused(target, token)
    assert signs[0] == 3


def test_a_run_that_lost_its_lease_writes_no_more(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1s")
    sink = open_sink(target.uri, target.spec)
    sink.write(target.batch([1]))

    def write_on() -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline:
            # Again, since a sign of life that is on its way may come after it.
            target.change(id="another's", machine="another", signs=0)
            sink.write(target.batch([1]))
            time.sleep(0.05)

    with pytest.raises(LockedError):
        write_on()
    # Longer than half the lease's time, after which a run looks whether it still has it.
    time.sleep(0.7)
    with pytest.raises(LockedError):
        sink.checkpoint()
    with pytest.raises(LockedError):
        sink.finish()
    sink.abort()
    assert target.metadata()[target.key]["id"] == "another's"
    assert target.is_there()


def test_signs_of_life_come_without_writes(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1s")
    with open_sink(target.uri, target.spec) as sink:
        first = target.metadata()[target.key]["signs"]
        deadline = time.monotonic() + LONGEST_SECONDS
        while target.metadata()[target.key]["signs"] < first + 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        sink.suspend()
    assert target.key not in target.metadata()


def test_a_lease_is_given_back(target: Target) -> None:
    sink = open_sink(target.uri, target.spec)
    token = sink.checkpoint()
    assert token is not None
    assert target.key in target.metadata()
    sink.suspend()
    assert target.key not in target.metadata()
    with resume_sink(target.uri, target.spec, token) as sink:
        assert target.key in target.metadata()
    with open_sink(target.uri, target.spec) as sink:
        sink.write(target.batch([1]))
        sink.finish()
    assert target.key not in target.metadata()


def test_it_is_no_setting_of_the_collection(target: Target) -> None:
    with open_sink(target.uri, target.spec) as sink:
        plain = target.uri.replace("vector=new&in_place=true", "vector=old")
        with open_source(plain) as source:
            assert "metadata" not in source.describe().settings or LEASE_KEY not in str(
                source.describe().settings["metadata"]
            )
        sink.abort()


def test_workers_write_under_the_lease_of_their_run(place: Place) -> None:
    name = place.name()
    spec = TargetSpec(dimension=NEW, metric=Metric.COSINE)
    with open_sink(place.uri(name), spec) as sink:
        assert sink.concurrent
        token = sink.share()
        assert token is not None
        workers = [resume_sink(place.uri(name), spec, token) for _ in range(2)]
        for first, worker in enumerate(workers):
            worker.write(points([2 * first, 2 * first + 1], dimension=NEW))
            worker.checkpoint()
            worker.suspend()
        late = resume_sink(place.uri(name), spec, token)
        sink.write(points([10], dimension=NEW))
        assert sink.finish().count == 5
        with pytest.raises(LockedError):
            late.checkpoint()
        late.abort()
    assert place.exists(name)
    with pytest.raises(TargetExistsError):
        resume_sink(place.uri(name), spec, token)


def test_workers_of_a_run_that_is_gone_are_refused(place: Place) -> None:
    name = place.name()
    spec = TargetSpec(dimension=NEW, metric=Metric.COSINE)
    sink = open_sink(place.uri(name), spec)
    token = sink.share()
    assert token is not None
    sink.suspend()
    with pytest.raises(LockedError):
        resume_sink(place.uri(name), spec, token)
    # Nor may they write to what another run makes there.
    with open_sink(place.uri(name), spec, restart=True), pytest.raises(LockedError):
        resume_sink(place.uri(name), spec, token)


@pytest.mark.parametrize("said", ["soon", "0.5s"])
def test_a_time_that_is_none_is_a_usage_error(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with open_place("rest", tmp_path) as place:
        name = place.name()
        with pytest.raises(UsageError):
            open_sink(place.uri(name), TargetSpec(dimension=NEW, metric=Metric.COSINE))
        assert not place.exists(name)


def begin(source: str, target: str, folder: Path, **more: Any) -> None:
    """A migration that stops half way, and whose state file is lost then."""
    seen = [0]

    def note(count: int) -> None:
        seen[0] += count

    with pytest.raises(TerminatedError):
        migrate(
            source,
            target,
            saved(folder),
            state=folder / "lost" / "state.sqlite",
            batch_size=50,
            checkpoint_seconds=0,
            progress=note,
            stop=lambda: seen[0] >= 100,
            **more,
        )


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_lost_state_file_costs_a_new_beginning(kind: str, in_place: bool, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as place:
        name = fill(place)
        source, target = uris(place, name)
        if not in_place:
            target = place.uri(place.name())
        begin(source, target, tmp_path)
        told: list[str] = []
        result = migrate(
            source,
            target,
            saved(tmp_path),
            state=tmp_path / "new" / "state.sqlite",
            announce=told.append,
        )
        assert (result.written, result.continued_after) == (FEW, 0)
        assert any("100 points" in line for line in told), told
        checked = verify(source, target, saved(tmp_path), VerifyOptions(full=True))
        assert checked.passed, checked.failures


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("in_place", [False, True])
def test_what_another_job_left_is_told_with_what_a_restart_costs(
    kind: str, in_place: bool, tmp_path: Path
) -> None:
    with open_place(kind, tmp_path) as place:
        name = fill(place)
        source, target = uris(place, name)
        if not in_place:
            target = place.uri(place.name())
        begin(source, target, tmp_path, on_bad_vector="skip")
        command = ["migrate", source, target, "--translator", str(saved(tmp_path))]
        command += ["--state", str(tmp_path / "new" / "state.sqlite")]
        for _ in range(2):
            ran = CliRunner().invoke(app, command)
            assert ran.exit_code == ExitCode.TARGET_EXISTS, ran.output
            assert "--restart" in ran.output
            assert "100 points" in ran.output.replace("\n", " ")
        ran = CliRunner().invoke(app, [*command, "--restart"])
        assert ran.exit_code == ExitCode.OK, ran.output
        checked = verify(source, target, saved(tmp_path), VerifyOptions(full=True))
        assert checked.passed, checked.failures
