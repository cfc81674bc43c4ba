"""A cutover while the source is written to: nothing of it is missing, nothing native is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.live import Job, N, change_the_source, contents, editing, make, points, same
from support.qdrant.places import open_place
from typer.testing import CliRunner

from vecmigrate import migrate, open_sink
from vecmigrate.cli import app
from vecmigrate.connector import Metric, TargetSpec, VectorBatch
from vecmigrate.connector.addresses import followed_place
from vecmigrate.cutover import Move, cut_over, roll_back
from vecmigrate.errors import ExitCode, MismatchError, UnsettledError
from vecmigrate.state.file import open_records
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.sync import SyncResult, cut_over_in_step, sync
from vecmigrate.verification import VerifyOptions, verify
from vecmigrate.verification.records import VerificationLog


def verified(job: Job) -> None:
    with open_records(job.state) as records:
        found = verify(job.source, job.target, job.translator, state=job.state)
        assert found.passed, found.failures
        VerificationLog(records).add(followed_place(job.target), found)


def cut(
    job: Job, name: str, meanwhile: Callable[[int, bool], None] = lambda *_: None
) -> tuple[Move, list[SyncResult]]:
    """Cut over, calling ``meanwhile`` with the number of the pass before and after each."""
    passes: list[SyncResult] = []

    def bring(source: str, readers_led: bool) -> SyncResult:
        meanwhile(len(passes), False)
        passes.append(sync(source, job.target, job.translator, job.state))
        meanwhile(len(passes) - 1, True)
        return passes[-1]

    with open_records(job.state) as records:
        return cut_over_in_step(name, job.target, records, bring), passes


@pytest.mark.parametrize("kind", ["faiss", "embedded", "rest", "grpc"])
def test_what_changes_until_the_switch_is_brought(kind: str, tmp_path: Path) -> None:
    job = make(tmp_path)
    if kind == "faiss":
        check(job, f"faiss:{tmp_path}/live.faiss")
        return
    with open_place(kind, tmp_path) as place:
        job = replace(job, target=place.uri(place.name()))
        migrate(job.source, job.target, job.translator, state=job.state)
        check(job, place.uri(place.name("live")))


def check(job: Job, name: str) -> None:
    verified(job)

    def meanwhile(number: int, after: bool) -> None:
        if number == 0 and not after:
            change_the_source(job)
        if number == 0 and after:
            # While the pass went on, and before readers were led over.
            with editing(job.source) as source:
                source.upsert(points(job.old, [60, 61, N + 9], more="late"))
                source.delete(np.array([70]))
        if number == 1 and not after:
            # Readers are led over, and an application writes there already.
            with editing(job.target) as target:
                target.upsert(points(job.new, [61, 550], app=True))
                target.delete(np.array([80]))

    move, passes = cut(job, name, meanwhile)
    assert move.done
    assert move.caught_up is not None
    assert (move.caught_up.passes, move.caught_up.brought, move.caught_up.behind) == (1, 11, 3)
    assert passes[-1].left_alone == 1
    found = contents(name)
    assert found[60][1]["more"] == "late"
    assert N + 9 in found
    assert found[61][1]["app"] is True
    assert 550 in found
    assert not {70, 80} & found.keys()
    again = verify(
        job.source, job.target, job.translator, VerifyOptions(full=True), state=job.state
    )
    assert again.passed, again.failures
    [native] = [check for check in again.checks if check.name == "native"]
    assert native.figures == {"native": 2, "deleted": 1}


def test_a_forgotten_sync_overwrites_nothing(tmp_path: Path) -> None:
    job = make(tmp_path)
    name = f"faiss:{tmp_path}/live.faiss"
    for end in ("", ".jsonl", ".vecmigrate.json"):
        shutil.copy(f"{tmp_path}/old.faiss{end}", f"{tmp_path}/live.faiss{end}")
    with open_records(job.state) as records:
        cut_over(name, job.target, records, unverified=True)
    with editing(job.target) as target:
        target.upsert(points(job.new, [5, 6, 550], app=True))
        target.delete(np.array([7, 8]))
    with editing(job.source) as source:
        source.upsert(points(job.old, [6, 8, 9, N + 1], more=1))
        source.delete(np.array([10]))
    done = job.run()
    assert (done.arrived, done.changed, done.vanished, done.left_alone) == (1, 1, 1, 1)
    found = contents(job.target)
    assert all(found[i][1].get("app") for i in (5, 6, 550))
    assert found[9][1]["more"] == 1
    assert not {7, 8, 10} & found.keys()
    assert job.run().wrote == 0
    with pytest.raises(MismatchError):
        job.run(overwrite=True)
    with open_records(job.state) as records:
        roll_back(name, records)
    # Nobody is led there any more, so that what the application wrote may be replaced.
    job.run(overwrite=True)
    migrate(job.source, f"faiss:{tmp_path}/whole.faiss", job.translator)
    assert same(job.target, f"faiss:{tmp_path}/whole.faiss")


def test_what_was_deleted_after_a_killed_sync_does_not_come_back(tmp_path: Path) -> None:
    job = make(tmp_path)
    with open_records(job.state) as records:
        cut_over(f"faiss:{tmp_path}/live.faiss", job.target, records, unverified=True)
    assert job.run().wrote == 0
    with editing(job.source) as source:
        source.upsert(points(job.old, [9, 10], more=1))
    with open_ledger(ledger_path(job.state, job.target)) as ledger:
        # As a run leaves it that was killed before it wrote these points.
        [nine, ten] = ledger.entries(np.array([9, 10]))
        assert nine is not None
        assert ten is not None
        ledger.intend([nine, ten])
        ledger.note(run=ledger.run)
    with editing(job.target) as target:
        target.delete(np.array([9]))
    assert job.run().changed == 1
    found = contents(job.target)
    assert 9 not in found
    assert found[10][1]["more"] == 1
    with open_ledger(ledger_path(job.state, job.target)) as ledger:
        assert not ledger.was_interrupted()
    assert job.run().wrote == 0


def test_writers_that_are_too_fast_keep_readers_where_they_are(tmp_path: Path) -> None:
    job = make(tmp_path)
    verified(job)
    name = f"faiss:{tmp_path}/live.faiss"

    def meanwhile(number: int, after: bool) -> None:
        if not after:
            with editing(job.source) as source:
                source.upsert(points(job.old, list(range(150)), more=number))

    with pytest.raises(UnsettledError):
        cut(job, name, meanwhile)
    assert not (tmp_path / "live.faiss").exists()


def test_the_command(tmp_path: Path) -> None:
    job = make(tmp_path)
    name = f"faiss:{tmp_path}/live.faiss"
    asked = ["cutover", name, "--to", job.target, "--state", str(job.state), "--json"]
    refused = CliRunner().invoke(app, [*asked, "--catch-up"])
    assert refused.exit_code == ExitCode.USAGE
    verified(job)
    change_the_source(job)
    done = CliRunner().invoke(app, [*asked, "--catch-up", "--translator", str(job.translator)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["caught_up"]
    assert (told["passes"], told["brought"], told["behind"]) == (1, 11, 0)
    found = verify(job.source, name, job.translator, VerifyOptions(full=True))
    assert found.passed, found.failures


@pytest.mark.parametrize("kind", ["embedded", "rest", "grpc"])
def test_what_applications_do_while_a_sync_writes_is_theirs(kind: str, tmp_path: Path) -> None:
    job = make(tmp_path)
    with open_place(kind, tmp_path) as place:
        spec = TargetSpec(dimension=job.old.shape[1], metric=Metric.COSINE, text_field="text")
        job = replace(job, source=place.uri(place.name()), target=place.uri(place.name()))
        with open_sink(job.source, spec) as sink:
            sink.write(points(job.old, list(range(N))))
            sink.finish()
        migrate(job.source, job.target, job.translator, state=job.state)
        with open_records(job.state) as records:
            cut_over(place.uri(place.name("live")), job.target, records, unverified=True)
        with editing(job.source) as source:
            source.upsert(points(job.old, [5, 6, 7, N + 1, N + 2], text="another"))
        vector, fields = contents(job.target)[5]
        # Another payload alone: the vector is ours still.
        retold = VectorBatch(np.array([5]), vector[None], [{**fields, "app": True}])

        def native(_: int) -> None:
            # The first of two arrivals is written, and the second is next.
            if not done:
                done.append(True)
                with editing(job.target) as target:
                    target.upsert(points(job.new, [N + 2], app=True))
                    target.delete(np.array([7]))

        done: list[bool] = []
        with editing(job.target) as target:
            target.upsert(retold)
        job.run(batch_size=1, progress=native)
        found = contents(job.target)
        assert (found[5][1], found[N + 2][1].get("app")) == ({**fields, "app": True}, True)
        assert found[6][1]["text"] == found[N + 1][1]["text"] == "another"
        assert 7 not in found
        assert job.run().wrote == 0
        again = verify(
            job.source, job.target, job.translator, VerifyOptions(full=True), state=job.state
        )
        assert again.passed, again.failures
