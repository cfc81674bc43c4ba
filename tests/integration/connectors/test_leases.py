"""A target is one run's at a time, in every store and from every machine.

Another machine is a lease that tells of one: no store knows more of it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leases import MADE, SERVERS, SINKS, SPEC, UPDATERS, Target, batch, open_target
from support.qdrant.places import open_place, params

from vecmigrate import open_sink, open_source, open_updater, resume_sink
from vecmigrate.connector import (
    InputError,
    Lease,
    LeaseFile,
    LockedError,
    MismatchError,
    TargetExistsError,
    VectorBatch,
    WriteError,
    held_beside,
    parse_uri,
)
from vecmigrate.connector.lease import VARIABLE
from vecmigrate.connector.registry import hold, require_switcher

LONGEST_SECONDS = 60.0


def write_while_another_takes_over(target: Target, write: Callable[[VectorBatch], object]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        # Again, since a sign of life that is on its way may come after it.
        target.change(id="another's", machine="another", signs=0)
        write(batch(1))
        time.sleep(0.05)


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    with open_target(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    with open_target(request.param, tmp_path) as opened:
        opened.make()
        yield opened


in_every_store = pytest.mark.parametrize("target", SINKS, indirect=True)
whole_in_every_store = pytest.mark.parametrize("whole", UPDATERS, indirect=True)


def update(target: Target) -> None:
    with open_updater(target.uri, MADE) as updater:
        updater.upsert(batch(7))
        updater.finish()


def sinks_are_refused(target: Target, token: str, who: str) -> None:
    """Neither a new run nor one that begins anew or continues may write."""
    for restart in (False, True):
        with pytest.raises(LockedError, match=who):
            open_sink(target.uri, SPEC, restart=restart)
    with pytest.raises(LockedError, match=who):
        resume_sink(target.uri, SPEC, token)


def changes_are_refused(target: Target, who: str) -> None:
    with pytest.raises(LockedError, match=who):
        open_updater(target.uri, MADE)
    with pytest.raises(LockedError, match=who), hold(target.uri):
        pass


def until(attempt: Callable[[], Any]) -> Any:
    """What it returns, once no lease keeps it from that."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            return attempt()
        except LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@in_every_store
def test_what_a_process_writes_is_its_own_until_it_ends(target: Target) -> None:
    with target.in_use("sink") as (process, token):
        sinks_are_refused(target, token, f"process {process.pid} on ")
        process.kill()
        process.wait()
    # At once: by its time the lease would live for two minutes more.
    with resume_sink(target.uri, SPEC, token) as sink:
        sink.write(batch(1, 2))
        assert sink.finish().count == 2
    assert target.lease() is None


@in_every_store
def test_what_a_run_of_this_process_writes_is_its_own(target: Target) -> None:
    with open_sink(target.uri, SPEC) as sink:
        token = sink.checkpoint()
        assert token is not None
        sinks_are_refused(target, token, f"process {os.getpid()} on ")
        sink.write(batch(1))
        assert sink.finish().count == 1
    assert target.lease() is None


@in_every_store
def test_what_another_machine_writes_is_its_own_while_it_lives(target: Target) -> None:
    token = target.left_behind("sink")
    target.change(machine="another")
    sinks_are_refused(target, token, "last sign of life")
    target.change(seconds=1.0, seen=int(time.time()) - 60)
    with until(lambda: resume_sink(target.uri, SPEC, token)) as sink:
        sink.write(batch(1))
        sink.finish()
    assert target.lease() is None


@in_every_store
def test_a_sink_gives_its_lease_back(target: Target) -> None:
    sink = open_sink(target.uri, SPEC)
    token = sink.checkpoint()
    assert token is not None
    assert target.lease() is not None
    sink.suspend()
    assert target.lease() is None
    with resume_sink(target.uri, SPEC, token) as sink:
        assert target.lease() is not None
    if target.server is None:
        assert target.lease() is None
        assert not [path for path in target.folder.iterdir() if path.name.startswith(".")]


@in_every_store
def test_a_sink_that_lost_its_lease_writes_no_more(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1s")
    sink = open_sink(target.uri, SPEC)
    sink.write(batch(1))

    with pytest.raises(LockedError):
        write_while_another_takes_over(target, sink.write)
    with pytest.raises(LockedError):
        sink.checkpoint()
    with pytest.raises(LockedError):
        sink.finish()
    sink.abort()
    lease = target.lease()
    assert lease is not None
    assert lease["id"] == "another's"
    # What is there is the other run's, to be continued.
    target.change(seconds=1.0, seen=0)
    until(lambda: open_sink(target.uri, SPEC)).abort()


@whole_in_every_store
@pytest.mark.parametrize("how", ["updater", "held"])
def test_what_a_process_changes_is_its_own_until_it_ends(whole: Target, how: str) -> None:
    with whole.in_use(how) as (process, _):
        changes_are_refused(whole, f"process {process.pid} on ")
        process.kill()
        process.wait()
    update(whole)
    with open_source(whole.uri) as source:
        assert source.describe().count == 4
    assert whole.lease() is None


@whole_in_every_store
def test_what_a_run_of_this_process_changes_is_its_own(whole: Target) -> None:
    with open_updater(whole.uri, MADE) as updater:
        changes_are_refused(whole, f"process {os.getpid()} on ")
        updater.upsert(batch(7))
        assert updater.finish().count == 4
    assert whole.lease() is None
    with open_updater(whole.uri, MADE):
        assert whole.lease() is not None
    assert whole.lease() is None


@whole_in_every_store
def test_what_another_machine_changes_is_its_own_while_it_lives(whole: Target) -> None:
    whole.left_behind("updater")
    whole.change(machine="another")
    changes_are_refused(whole, "last sign of life")
    whole.change(seconds=1.0, seen=int(time.time()) - 60)
    until(lambda: update(whole))
    assert whole.lease() is None


@whole_in_every_store
def test_a_run_changes_what_it_holds(whole: Target) -> None:
    with hold(whole.uri):
        first = whole.lease()
        assert first is not None
        with hold(whole.uri):
            update(whole)
            update(whole)
        lease = whole.lease()
        assert lease is not None
        assert lease["id"] == first["id"]
    assert whole.lease() is None


@whole_in_every_store
def test_an_updater_that_lost_its_lease_writes_no_more(
    whole: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1s")
    updater = open_updater(whole.uri, MADE)

    with pytest.raises(LockedError):
        write_while_another_takes_over(whole, updater.upsert)
    with pytest.raises(LockedError):
        updater.finish()
    updater.abort()
    lease = whole.lease()
    assert lease is not None
    assert lease["id"] == "another's"
    # Embedded storage is not read while another run is at work there.
    with until(lambda: open_source(whole.uri)) as source:
        assert source.describe().count == 3


@pytest.mark.parametrize("whole", SINKS, indirect=True)
def test_a_finished_target_can_be_held(whole: Target) -> None:
    with whole.in_use("held") as (process, _):
        with pytest.raises(LockedError, match=f"process {process.pid} on "), hold(whole.uri):
            pass
        process.kill()
        process.wait()
    with hold(whole.uri):
        pass
    assert whole.lease() is None


@pytest.mark.parametrize("kind", ["embedded", *SERVERS])
def test_a_collection_of_a_user_s_own_is_held_while_it_is_written(
    kind: str, tmp_path: Path
) -> None:
    """As by `sync --back`; who only leads readers there leaves nothing in it."""
    with open_place(kind, tmp_path) as place:
        name = place.name()
        uri = place.uri(name)
        with place.client() as client:
            client.create_collection(name, vectors_config=params(4), metadata={"owner": "search"})

        def metadata() -> Any:
            with place.client() as client:
                return client.get_collection(name).config.metadata

        with hold(uri):
            if kind != "embedded":
                assert metadata() == {"owner": "search"}
        with open_updater(uri, None) as updater:
            for attempt in (lambda: hold(uri).__enter__(), lambda: open_updater(uri, None)):
                with pytest.raises(LockedError):
                    attempt()
            updater.upsert(batch(1, 2))
            assert updater.finish().count == 2
        with hold(uri):
            pass
        assert metadata() == {"owner": "search"}


@pytest.mark.parametrize("whole", ["faiss", "embedded", *SERVERS], indirect=True)
def test_what_a_run_changes_is_not_dropped(whole: Target) -> None:
    switcher = require_switcher(whole.uri)
    with open_updater(whole.uri, MADE), pytest.raises(LockedError):
        switcher.drop(parse_uri(whole.uri))
    with open_source(whole.uri) as source:
        assert source.describe().count == 3
    switcher.drop(parse_uri(whole.uri))
    with pytest.raises(InputError):
        open_source(whole.uri)
    if whole.server is None:
        assert whole.lease() is None


def test_links_lead_to_one_lease(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with held_beside(real, "x"):
        for other in (tmp_path / "link", tmp_path / "link" / ".." / "real"):
            lease = Lease(LeaseFile.beside(other), "x")
            lease.claim()  # under the one that the run holds
            lease.release()
            assert LeaseFile.beside(other).read() is not None
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["link", "real"]


def test_a_lease_that_cannot_be_read_dies_by_its_time(tmp_path: Path) -> None:
    place = LeaseFile(tmp_path / "lease")
    place.path.write_text("")
    with pytest.raises(LockedError):
        Lease(place, "x").claim()
    os.utime(place.path, (0, 0))
    place.path.with_name("lease.left").write_text("of a run that was killed")
    lease = Lease(place, "x")
    until(lambda: _claimed_in_a_second(lease, place.path))
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]
    lease.release()
    assert not list(tmp_path.iterdir())


def _claimed_in_a_second(lease: Lease, path: Path) -> None:
    """Claim over a lease whose holder is unknown, which is watched for half its time."""
    os.environ[VARIABLE] = "1s"
    try:
        lease.claim()
    finally:
        del os.environ[VARIABLE]


def test_of_two_that_find_a_dead_lease_one_has_it(tmp_path: Path) -> None:
    place = LeaseFile(tmp_path / "lease")
    first, second, dead = (Lease(place, name) for name in ("first", "second", "dead"))
    gone = dead.sign().model_copy(update={"machine": "another", "seen": 0})
    assert place.write(gone, None)
    assert not place.write(first.sign(), None)
    assert place.write(first.sign(), gone)
    assert not place.write(second.sign(), gone)
    found = place.read()
    assert found is not None
    assert found.id == first.id


def test_a_disk_without_second_names_has_leases_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    place = LeaseFile(tmp_path / "lease")
    first, second = Lease(place, "x"), Lease(place, "x")
    first.claim()
    with pytest.raises(LockedError):
        second.claim()
    assert json.loads(place.path.read_text())["id"] == first.id
    first.release()
    second.claim()
    second.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_files_is_only_looked_at(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with held_beside(tmp_path / "new", "x"):
            pass
        with pytest.raises(WriteError):
            Lease(LeaseFile.beside(tmp_path / "new"), "x").claim()
    finally:
        tmp_path.chmod(0o700)


@in_every_store
def test_a_finished_target_is_told_before_a_lease(target: Target) -> None:
    with open_sink(target.uri, SPEC) as sink:
        token = sink.checkpoint()
        assert token is not None
        sink.write(batch(1))
        sink.finish()
    with pytest.raises(TargetExistsError):
        open_sink(target.uri, SPEC, restart=True)
    with pytest.raises((TargetExistsError, MismatchError)):
        resume_sink(target.uri, SPEC, token)
    assert target.lease() is None
