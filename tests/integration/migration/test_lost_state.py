"""A lost state file is no lost migration: the same commands go on, or say what a restart costs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leases import SINKS, UPDATERS, open_target
from support.movers import COUNT, SWITCHED, Job

from vecmigrate import migrate, open_source
from vecmigrate.errors import ExitCode, TerminatedError
from vecmigrate.verification import VerifyOptions, verify


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    with open_target(request.param, tmp_path) as target:
        yield Job(target)


in_every_store = pytest.mark.parametrize("job", SINKS, indirect=True)
synced = pytest.mark.parametrize("job", UPDATERS, indirect=True)
switched = pytest.mark.parametrize("job", SWITCHED, indirect=True)


def half(job: Job, **settings: Any) -> None:
    """A migration that stops half way."""
    seen = [0]

    def note(count: int) -> None:
        seen[0] += count

    with pytest.raises(TerminatedError):
        migrate(
            job.source, job.target, job.translator, state=job.folder / "here" / "state.sqlite",
            batch_size=10, checkpoint_seconds=0, progress=note, stop=lambda: seen[0] >= 30,
            **settings,
        )  # fmt: skip


def lose(job: Job, what: str = "") -> None:
    shutil.rmtree(job.folder / "here" / what)


def is_as_a_fresh_migration(job: Job) -> None:
    checked = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
    assert checked.passed, checked.failures


@in_every_store
def test_the_same_command_does_it_again_and_says_so(job: Job) -> None:
    half(job)
    lose(job)
    told: list[str] = []
    result = migrate(
        job.source, job.target, job.translator, state=job.folder / "here" / "state.sqlite",
        announce=told.append,
    )  # fmt: skip
    assert (result.written, result.continued_after) == (COUNT, 0)
    assert any("left unfinished" in line for line in told), told
    is_as_a_fresh_migration(job)
    assert job.lease() is None
    assert not list(job.folder.glob(".*"))


@in_every_store
def test_what_another_job_left_is_refused_with_what_a_restart_costs(job: Job) -> None:
    half(job, on_bad_vector="skip")
    lose(job)
    for _ in range(2):
        code, said = job.run("migrate")
        assert code == ExitCode.TARGET_EXISTS, said
        assert "--restart" in said
        assert "30 points" in said or " MiB " in said
    job.does("migrate", "here", "--restart")
    is_as_a_fresh_migration(job)
    assert job.lease() is None


@synced
def test_a_lost_ledger_costs_no_more_than_a_comparison(job: Job) -> None:
    half(job)
    lose(job, "ledgers")
    job.does("migrate")
    job.change()
    job.does("sync")
    assert job.ids() == set(range(COUNT + 20))
    is_as_a_fresh_migration(job)


@synced
def test_a_sync_goes_on_without_the_state_file(job: Job) -> None:
    job.does("migrate")
    lose(job)
    job.change()
    code, said = job.run("sync", "here", "--json")
    assert code == ExitCode.OK, said
    done = json.loads(said[said.index("{") :])
    assert (done["arrived"], done["changed"], done["vanished"]) == (20, 0, 0)
    assert done["adopted"] == COUNT
    assert job.ids() == set(range(COUNT + 20))
    is_as_a_fresh_migration(job)
    # And what vanishes afterwards is known to be ours.
    job.drop(range(5))
    job.does("sync")
    assert job.ids() == set(range(5, COUNT + 20))
    is_as_a_fresh_migration(job)


@in_every_store
def test_a_target_that_is_whole_is_never_begun_anew(job: Job) -> None:
    job.does("migrate")
    lose(job)
    for more in ((), ("--restart",)):
        code, said = job.run("migrate", "here", *more)
        assert code == ExitCode.TARGET_EXISTS, said
    is_as_a_fresh_migration(job)


@switched
def test_a_cutover_asks_for_another_verification(job: Job) -> None:
    job.does("migrate")
    job.does("verify")
    lose(job)
    code, said = job.run("cutover")
    assert code == ExitCode.NOT_VERIFIED, said
    job.does("verify")
    job.does("cutover")
    with open_source(job.live) as source:
        assert source.describe().count == COUNT


@switched
def test_a_rollback_says_what_is_left_to_do(job: Job) -> None:
    job.does("migrate")
    job.does("cutover", "here", "--unverified")
    lose(job)
    code, said = job.run("rollback")
    assert code == ExitCode.MISMATCH, said
    assert "--state" in said
    assert "cutover" in said
    with open_source(job.live) as source:
        assert source.describe().count == COUNT
