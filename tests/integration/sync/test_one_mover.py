"""One run at a time moves a target, though each has a state file of its own, as on two machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leases import SINKS, UPDATERS, open_target
from support.movers import COUNT, SWITCHED, Job

from vecmigrate import open_source
from vecmigrate.errors import ExitCode


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    with open_target(request.param, tmp_path) as target:
        yield Job(target)


synced = pytest.mark.parametrize("job", UPDATERS, indirect=True)
switched = pytest.mark.parametrize("job", SWITCHED, indirect=True)


@pytest.fixture
def moved(job: Job) -> Job:
    job.does("migrate")
    job.change()
    return job


@pytest.mark.parametrize("job", SINKS, indirect=True)
def test_a_migration_keeps_others_away(job: Job) -> None:
    with job.at_work("migrate") as process:
        job.is_locked("migrate", process)
        job.is_locked("migrate", process, "--restart")
        code, said = job.run("sync", "there")
        assert code in (ExitCode.LOCKED, ExitCode.BAD_INPUT), said
    assert job.ids() == set(range(COUNT))
    # Nothing that is whole is ever replaced.
    code, said = job.run("migrate", "there", "--restart")
    assert code == ExitCode.TARGET_EXISTS, said


@synced
def test_a_sync_keeps_others_away(moved: Job) -> None:
    with moved.at_work("sync") as process:
        moved.is_locked("sync", process)
        code, said = moved.run("migrate", "there", "--restart")
        assert code in (ExitCode.LOCKED, ExitCode.TARGET_EXISTS), said
    assert moved.ids() == set(range(COUNT + 20))
    moved.does("sync", "there")


@synced
def test_a_sync_keeps_forget_away(moved: Job) -> None:
    with moved.at_work("sync") as process:
        moved.is_locked("forget", process)
    assert 7 in moved.ids()
    moved.does("forget", "there")
    assert 7 not in moved.ids()


@switched
def test_a_sync_and_a_cutover_keep_each_other_away(moved: Job) -> None:
    unverified = "--unverified"
    with moved.at_work("sync") as process:
        moved.is_locked("cutover", process, unverified)
    with moved.at_work("cutover", unverified) as process:
        moved.is_locked("sync", process)
        moved.is_locked("cutover", process, unverified)
    with open_source(moved.live) as source:
        assert source.describe().count == COUNT + 20
    moved.does("cutover", "there", unverified)


@switched
def test_readers_are_not_led_back_to_what_a_sync_writes(moved: Job) -> None:
    first = moved.target
    for target in (first, moved.another):
        moved.target = target
        if target != first:
            moved.does("migrate")
        moved.does("cutover", "here", "--unverified")
    moved.target = first
    with moved.at_work("sync") as process:
        code, said = moved.run("rollback")
        assert code == ExitCode.LOCKED, said
        assert f"process {process.pid} on " in said
    moved.does("rollback")
    with open_source(moved.live) as source:
        assert source.describe().count == COUNT + 20


@synced
@pytest.mark.parametrize("command", ["migrate", "sync"])
def test_a_command_that_is_asked_to_stop_gives_the_lease_back(job: Job, command: str) -> None:
    if command == "sync":
        job.does("migrate")
        job.change()
    with job.at_work(command) as process:
        process.terminate()
        out, err = process.communicate()
        assert process.returncode == ExitCode.TERMINATED, out + err
        assert job.lease() is None
    job.does(command)
    assert job.lease() is None


@switched
def test_a_cutover_that_is_asked_to_stop_gives_the_lease_back(moved: Job) -> None:
    with moved.at_work("cutover", "--unverified") as process:
        process.terminate()
        out, err = process.communicate()
        assert process.returncode == ExitCode.TERMINATED, out + err
        assert moved.lease() is None
    moved.does("sync", "there")


@synced
@pytest.mark.parametrize("command", ["migrate", "sync"])
def test_a_command_that_was_killed_keeps_nobody_away(job: Job, command: str) -> None:
    if command == "sync":
        job.does("migrate")
        job.change()
    with job.at_work(command) as process:
        process.kill()
        process.wait()
        assert job.lease() is not None
    job.does(command)
    assert job.lease() is None
    assert job.ids() == set(range(COUNT + (20 if command == "sync" else 0)))
