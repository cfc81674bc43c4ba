"""A target follows its source, leaves alone what others wrote, and becomes native over time."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from support.corpus import unit
from support.crash import PAIRS, place, stepper
from support.forked import Forked
from support.live import (
    MADE,
    NEW,
    OLD,
    Job,
    N,
    change_the_source,
    contents,
    editing,
    make,
    points,
    same,
)
from support.qdrant.places import open_place
from typer.testing import CliRunner
from vecmigrate_faiss.exchange import belonging, complete
from vecmigrate_faiss.location import Location

from vecmigrate import (
    Procrustes,
    load_translator,
    migrate,
    open_source,
    open_updater,
    save_translator,
)
from vecmigrate.cli import app
from vecmigrate.connector import (
    ENCODED,
    ORIGIN_FIELD,
    TRANSLATED,
    Metric,
    VectorBatch,
)
from vecmigrate.connector.addresses import collection_of, followed_place
from vecmigrate.cutover import cut_over, roll_back
from vecmigrate.errors import (
    BadVectorError,
    InputError,
    LockedError,
    MismatchError,
    NotVerifiedError,
    TerminatedError,
    UsageError,
    WriteError,
)
from vecmigrate.evaluation import exact_search
from vecmigrate.state.file import open_records
from vecmigrate.state.ledger import ledger_path, open_ledger
from vecmigrate.sync import SyncOptions, sync
from vecmigrate.verification import VerifyOptions, verify
from vecmigrate.verification.records import VerificationLog


@pytest.mark.parametrize(("old", "new"), [*PAIRS, ("qdrant-edge", "qdrant-edge")])
def test_a_target_follows_its_source(old: str, new: str, tmp_path: Path) -> None:
    job = make(tmp_path, old, new)
    first = job.run()
    # The migration has begun the ledger.
    assert (first.adopted, first.wrote) == (0, 0)
    change_the_source(job)
    before = contents(job.target)
    planned = job.run(dry_run=True)
    assert (planned.arrived, planned.changed, planned.vanished) == (5, 3, 3)
    assert str(contents(job.target)) == str(before)
    done = job.run(batch_size=2)
    assert (done.arrived, done.changed, done.vanished) == (5, 3, 3)
    assert done.count == N + 2
    whole = place(new, tmp_path, "whole")
    migrate(job.source, whole, job.translator)
    assert same(job.target, whole)
    found = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
    assert found.passed, found.failures
    status = job.status(job.source)
    assert (status.count, status.translated, status.other) == (N + 2, N + 2, 0)
    again = job.run()
    assert (again.wrote, again.adopted, again.left_alone) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_target_on_a_server_follows_and_becomes_native(kind: str, tmp_path: Path) -> None:
    job = make(tmp_path)
    with open_place(kind, tmp_path) as there:
        job = replace(job, target=there.uri(there.name()))
        migrate(job.source, job.target, job.translator, state=job.state)
        assert job.run().wrote == 0
        change_the_source(job)
        done = job.run()
        assert (done.arrived, done.changed, done.vanished) == (5, 3, 3)
        found = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
        assert found.passed, found.failures
        assert job.run(reembed_budget="20", encoder=job.encoder).reembedded == 20
        assert job.run().wrote == 0
        assert job.status().encoded == 20


def test_nothing_to_do_touches_nothing(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    times = [path.stat().st_mtime_ns for path in files]
    job.run()
    assert [path.stat().st_mtime_ns for path in files] == times


@pytest.mark.parametrize("words", ["Flat", "IVF8,Flat", "HNSW8,Flat", "IDMap2,Flat"])
def test_every_kind_of_index_keeps_its_kind(tmp_path: Path, words: str) -> None:
    job = make(tmp_path)
    index = faiss.index_factory(OLD, words, faiss.METRIC_INNER_PRODUCT)
    index.train(job.old)
    ids = np.arange(N)
    index.add_with_ids(job.old[:N], ids) if "IDMap" in words else index.add(job.old[:N])
    path = tmp_path / "kind.faiss"
    faiss.write_index(index, str(path))
    job = replace(job, source=f"faiss:{path}", target=f"faiss:{tmp_path}/kind-new.faiss")
    migrate(job.source, job.target, job.translator, state=job.state)
    with open_source(job.target) as target:
        kind = target.describe().index_type
    job.run()
    index.add_with_ids(job.old[N:][:7], ids[:7] + N) if "IDMap" in words else index.add(
        job.old[N:][:7]
    )
    faiss.write_index(index, str(path))
    assert job.run().arrived == 7
    with open_source(job.target) as target:
        assert target.describe().index_type == kind
        assert target.search(job.new[:3], 5)
    found = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
    assert found.passed, found.failures


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_what_others_wrote_is_left_alone(old: str, new: str, tmp_path: Path) -> None:
    job = make(tmp_path, old, new)
    job.run()
    with editing(job.target) as target:
        # Of its own id; of one that is ours; and of one that will arrive.
        target.upsert(points(job.new, [550, 40, 41, N + 1], app=True))
    with editing(job.source) as source:
        source.upsert(points(job.old, [40, 42, N + 1, N + 2], more=1))
        source.delete(np.array([41, 43]))
    done = job.run(shared_target=True)
    assert (done.arrived, done.changed, done.vanished, done.left_alone) == (1, 1, 1, 2)
    found = contents(job.target)
    for i in (550, 40, 41, N + 1):
        assert found[i][1]["app"] is True
        np.testing.assert_allclose(found[i][0], job.new[i], atol=1e-6)
    assert 43 not in found
    assert (again := job.run()).wrote == 0, again
    with editing(job.source) as source:
        source.upsert(points(job.old, [40], more=2))
        source.delete(np.array([N + 1]))
    assert job.run().wrote == 0
    status = job.status()
    assert (status.translated, status.other, status.count) == (N - 3 + 1, 4, N + 2)


def known(job: Job) -> int:
    with open_ledger(ledger_path(job.state, job.target)) as ledger:
        return ledger.count("points")


@pytest.mark.parametrize(("old", "new"), [*PAIRS, ("qdrant-edge", "qdrant-edge")])
@pytest.mark.parametrize("anchors", [False, True])
def test_what_changed_before_the_first_sync_is_brought(
    old: str, new: str, anchors: bool, tmp_path: Path
) -> None:
    job = make(tmp_path, old, new, anchors=anchors)
    assert known(job) == N
    change_the_source(job)
    kept = tmp_path / "a.parquet" if anchors else None
    done = job.run(keep_anchors=kept)
    # Point 10 is an anchor. Its vector changed and its text did not: the true vector stays.
    assert (done.arrived, done.changed, done.vanished) == (5, 3 - anchors, 3)
    assert (done.adopted, done.left_alone) == (int(anchors), 0)
    whole = place(new, tmp_path, "whole")
    migrate(job.source, whole, job.translator, keep_anchors=kept)
    assert same(job.target, whole)
    asked = VerifyOptions(full=True, keep_anchors=kept)
    found = verify(job.source, job.target, job.translator, asked)
    assert found.passed, found.failures


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_what_others_wrote_stops_a_sync_before_its_first_write(
    old: str, new: str, tmp_path: Path
) -> None:
    job = make(tmp_path, old, new)
    untouched = contents(job.target)
    change_the_source(job)
    whole = place(new, tmp_path, "whole")
    migrate(job.source, whole, job.translator)
    # A point of its own id; one that arrives; and of those that change or vanish, others' vectors.
    for theirs in (550, N + 1, 10, 20, 30):
        with editing(job.target) as target:
            target.upsert(points(job.new, [theirs], app=True))
        before = str(contents(job.target))
        with pytest.raises(MismatchError) as caught:
            job.run()
        assert f" {theirs}" in caught.value.message
        assert str(contents(job.target)) == before
        with editing(job.target) as target:
            if theirs in untouched:
                vector, fields = untouched[theirs]
                target.upsert(VectorBatch(np.array([theirs]), vector[None], [fields]))
            else:
                target.delete(np.array([theirs]))
    with editing(job.target) as target:
        target.upsert(points(job.new, [550, N + 1, 10, 30], app=True))
    assert job.run(overwrite=True).left_alone == 0
    assert same(job.target, whole)
    assert job.run().wrote == 0


@pytest.mark.parametrize("shared", [False, True])
def test_what_others_deleted_comes_back_unless_they_share_the_target(
    shared: bool, tmp_path: Path
) -> None:
    job = make(tmp_path)
    with editing(job.target) as target:
        target.delete(np.array([5, 6]))
    done = job.run(shared_target=shared)
    assert (done.arrived, done.changed) == ((0, 0) if shared else (2, 0))
    # Whoever shares a target is known to do so.
    assert job.run().wrote == 0
    assert job.status().count == (N - 2 if shared else N)
    with editing(job.source) as source:
        source.upsert(points(job.old, [5], more=1))
    assert job.run().wrote == (0 if shared else 1)


def test_a_migration_in_pieces_has_one_ledger(tmp_path: Path) -> None:
    job = make(tmp_path)
    target = f"faiss:{tmp_path}/pieces.faiss"
    job = replace(job, target=target)
    for stop_after in (1, 3, None):
        passed: list[int] = []

        def stop(passed: list[int] = passed, after: int | None = stop_after) -> bool:
            return after is not None and len(passed) >= after

        try:
            migrate(
                job.source, target, job.translator, state=job.state, batch_size=40, stop=stop,
                progress=passed.append,
            )  # fmt: skip
        except TerminatedError:
            assert stop_after is not None
    assert known(job) == N
    first = job.run()
    assert (first.adopted, first.wrote) == (0, 0)


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_a_lost_ledger_is_rebuilt_and_deletes_nothing_unmarked(
    old: str, new: str, tmp_path: Path
) -> None:
    job = make(tmp_path, old, new)
    job.run()
    with editing(job.target) as target:
        target.upsert(points(job.new, [550, 40], app=True))
    job.forget()
    change_the_source(job)
    before = str(contents(job.target))
    with pytest.raises(MismatchError) as caught:
        job.run()
    assert "30, 31, 299, 550" in caught.value.message
    assert str(contents(job.target)) == before
    done = job.run(shared_target=True)
    # A vector that changed while nothing was known of it looks like somebody's own.
    assert (done.arrived, done.changed, done.vanished, done.left_alone) == (5, 2, 0, 2)
    assert {30, 31, 299, 550} <= contents(job.target).keys()
    assert job.run().wrote == 0
    job.forget()
    done = job.run(overwrite=True)
    assert (done.changed, done.vanished) == (2, 4)
    whole = place(new, tmp_path, "whole")
    migrate(job.source, whole, job.translator)
    assert same(job.target, whole)


def test_marks_tell_what_vanished_without_a_ledger(tmp_path: Path) -> None:
    job = make(tmp_path, "faiss", "qdrant", anchors=True)
    kept = tmp_path / "a.parquet"
    with editing(job.target) as target:
        target.upsert(points(job.new, [550], app=True))
    change_the_source(job)
    job.forget()
    done = job.run(keep_anchors=kept, shared_target=True)
    assert (done.arrived, done.changed, done.vanished, done.left_alone) == (5, 2, 3, 0)
    assert 550 in contents(job.target)
    # Point 10 is an anchor: its text is the same, so that its true vector is.
    asked = VerifyOptions(full=True, keep_anchors=kept)
    found = verify(job.source, job.target, job.translator, asked)
    assert [check.name for check in found.failures] == ["count", "ids"]
    assert found.checks[1].figures


def test_a_true_vector_stays_until_its_text_changes(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    kept = tmp_path / "a.parquet"
    job.run(keep_anchors=kept)
    with editing(job.source) as source:
        source.upsert(points(job.old, [5], more=1))
        source.upsert(points(job.old, [6], text="another text"))
        source.upsert(points(job.old, [N + 3]))
    assert job.run(keep_anchors=kept).changed == 2
    found = contents(job.target)
    np.testing.assert_allclose(found[5][0], job.new[5], atol=1e-6)
    assert (found[5][1][ORIGIN_FIELD], found[5][1]["more"]) == (ENCODED, 1)
    assert found[6][1][ORIGIN_FIELD] == found[N + 3][1][ORIGIN_FIELD] == TRANSLATED
    assert not np.allclose(found[6][0], job.new[6], atol=1e-2)
    asked = VerifyOptions(full=True, keep_anchors=kept)
    verified = verify(job.source, job.target, job.translator, asked)
    assert verified.passed, verified.failures
    with pytest.raises(MismatchError, match="kept anchors"):
        job.run()
    job.forget()
    (job.state).unlink()
    with pytest.raises(MismatchError, match="holds true vectors"):
        job.run(source_moved=True)


def test_changes_by_ids_and_by_a_field(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run(changed_by="at", overlap="0")
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 1]))
        source.upsert(points(job.old, [7], more=1))  # its time stays: not noticed by field
        source.upsert(points(job.old, [8], more=1, at=9999))
        source.delete(np.array([9]))
    by_ids = job.run(changed_by="ids", dry_run=True)
    assert (by_ids.arrived, by_ids.changed, by_ids.vanished) == (1, 0, 1)
    by_field = job.run(changed_by="at", overlap="0")
    assert (by_field.arrived, by_field.changed, by_field.vanished) == (1, 1, 1)
    assert job.run(changed_by="at", overlap="0").wrote == 0
    assert job.run().changed == 1
    with pytest.raises(InputError, match="'text' of point 0 holds no time"):
        job.run(changed_by="text")


def test_a_field_that_no_point_has_tells_of_no_change(tmp_path: Path) -> None:
    job = make(tmp_path)
    with pytest.raises(UsageError, match="at, n, text"):
        job.run(changed_by="att")
    assert job.status().last_sync is None
    job.run(changed_by="at")
    change_the_source(job)
    with pytest.raises(UsageError, match="text"):
        job.run(changed_by="att")


def test_bad_vectors_are_refused_or_left_out(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run()
    bad = points(job.old, [N, N + 1])
    bad.vectors[1] = np.nan
    with editing(job.source) as source:
        source.upsert(bad)
    before = contents(job.target)
    with pytest.raises(BadVectorError, match="301"):
        job.run()
    assert str(contents(job.target)) == str(before)
    done = job.run(on_bad_vector="skip")
    assert (done.arrived, done.skipped_ids) == (1, (N + 1,))
    assert job.run(on_bad_vector="skip").wrote == 0


def test_an_emptied_source_is_refused(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run()
    with editing(job.source) as source:
        source.delete(np.arange(10, N))
    with pytest.raises(MismatchError, match="290 of 300 points would be deleted"):
        job.run()
    assert len(contents(job.target)) == N
    assert job.run(max_vanished=1).vanished == 290


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    job = make(tmp_path)
    other = tmp_path / "other.safetensors"
    save_translator(Procrustes().fit(job.old[:90], job.new[:90]), other)
    with pytest.raises(MismatchError, match="another translator"):
        sync(job.source, job.target, other, job.state)
    copy = tmp_path / "copy.faiss"
    for end in ("", ".jsonl", ".vecmigrate.json"):
        shutil.copy(f"{tmp_path}/old.faiss{end}", f"{copy}{end}")
    with pytest.raises(MismatchError, match="was written from"):
        sync(f"faiss:{copy}", job.target, job.translator, job.state)
    moved = SyncOptions(source_moved=True)
    assert sync(f"faiss:{copy}", job.target, job.translator, job.state, moved).wrote == 0
    assert sync(f"faiss:{copy}", job.target, job.translator, job.state).wrote == 0
    with pytest.raises(MismatchError):
        sync(job.source, job.source, job.translator, job.state)
    with pytest.raises(UsageError, match="--encoder"):
        job.run(reembed_budget="5")
    np.save(tmp_path / "else.npy", job.new)
    with pytest.raises(MismatchError, match="in the space of"):
        job.run(reembed_budget="5", encoder=f"vectors:{tmp_path}/else.npy?name=else")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.forget()
    seen: list[str] = []

    def again(_: int) -> None:
        if not seen:
            with pytest.raises(LockedError) as caught:
                job.run()
            seen.append(str(caught.value))

    job.run(progress=again)
    assert "process " in seen[0]


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
@pytest.mark.parametrize("batches", [1, 2, 4])
def test_stopped_at_any_batch_and_run_again_is_the_same(
    old: str, new: str, batches: int, tmp_path: Path
) -> None:
    job = make(tmp_path, old, new)
    job.run()
    change_the_source(job)
    asked = iter(range(100))
    with pytest.raises(TerminatedError):
        job.run(batch_size=2, stop=lambda: next(asked) == batches - 1)
    # What was being written may change once more, or back, before the next run.
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 1, 20], more=3))
    job.run()
    whole = place(new, tmp_path, "whole")
    migrate(job.source, whole, job.translator)
    assert same(job.target, whole)
    assert job.run().wrote == 0
    assert not (tmp_path / ".new.faiss.vecmigrate-update").exists()


@pytest.mark.parametrize(("store", "every", "least"), [("faiss", 30, 17), ("qdrant", 14, 5)])
def test_killed_while_it_writes_and_run_again_is_the_same(
    store: str, every: int, least: int, tmp_path: Path
) -> None:
    job = make(tmp_path, store, store)
    job.run()
    change_the_source(job)
    whole = place(store, tmp_path, "whole")
    migrate(job.source, whole, job.translator)
    pristine = tmp_path / "pristine"
    shutil.copytree(tmp_path, pristine)
    argv = ["sync", job.source, job.target, "--translator", str(job.translator), "--state",
            str(job.state)]  # fmt: skip
    # Around the renamings of FAISS each step, elsewhere some.
    steps = sorted({*range(1, 400, every), *(range(133, 147) if store == "faiss" else ())})
    landed = 0
    with stepper(syncs=True) as killer:
        for step in steps:
            for path in pristine.iterdir():
                here = tmp_path / path.name
                shutil.rmtree(here) if here.is_dir() else here.unlink(missing_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, here)
            code = killer.run(step, argv)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            landed += 1
            # A reader finds a whole collection.
            assert len(contents(job.target)) in range(N, N + 8)
            job.run()
            assert same(job.target, whole), step
            assert job.run().wrote == 0
            assert not (tmp_path / ".new.faiss.vecmigrate-update").exists(), step
    assert landed >= least


def test_a_reader_meets_files_that_belong_together(tmp_path: Path) -> None:
    job = make(tmp_path)
    reader = """
import sys
from vecmigrate import open_source
seen = set()
print("ready", flush=True)
while True:
    with open_source(sys.argv[1]) as source:
        versions = set()
        for batch in source.batches(1000):
            versions |= {payload["version"] for payload in batch.payloads}
        assert len(versions) == 1, versions
        seen |= versions
    if len(seen) == 4:
        break
"""
    with editing(job.target) as target:
        target.upsert(points(job.new, list(range(N)), version=0))
    with Forked("-c", reader, job.target) as process:
        assert process.stdout.readline() == "ready\n"
        for version in range(1, 200):
            if process.poll() is not None:
                break
            with editing(job.target) as target:
                target.upsert(points(job.new, list(range(N)), version=version))
        process.kill()
    assert process.returncode == 0


@pytest.fixture
def half_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A target whose new index has the name while its sidecar could not be given its own."""
    job = make(tmp_path)

    def full(location: Location) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_updater(job.target, MADE) as target, monkeypatch.context() as patch:
        target.upsert(points(job.new, [3], version=7))
        patch.setattr("vecmigrate_faiss.exchange.complete", full)
        with pytest.raises(WriteError):
            target.finish()
    return job


def test_an_exchange_that_fails_after_the_index_has_its_name_loses_nothing(
    half_exchanged: Job,
) -> None:
    target = half_exchanged.target
    assert contents(target)[3][1]["version"] == 7

    with editing(target) as edited:
        edited.delete(np.array([4]))
    after = contents(target)
    assert after[3][1]["version"] == 7
    assert after.keys() == set(range(N)) - {4}


def test_files_that_get_their_names_while_they_are_opened_are_opened_again(
    half_exchanged: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Location] = []

    def moved_meanwhile(location: Location) -> tuple[Path, Path]:
        found = belonging(location)
        if not moved:
            complete(location)
            moved.append(location)
        return found

    monkeypatch.setattr("vecmigrate_faiss.sidecars.belonging", moved_meanwhile)
    assert contents(half_exchanged.target)[3][1]["version"] == 7
    assert moved


def recall(job: Job) -> float:
    """Share of a true re-embedding's top ten that the target returns."""
    rng = np.random.default_rng(9)
    queries = unit(job.new[:N][::3] + 0.1 * rng.standard_normal((N // 3, NEW)))
    truth = exact_search([points(job.new, list(range(N)))], queries, 10, Metric.COSINE)
    with open_source(job.target) as target:
        found = exact_search(target.batches(1000), queries, 10, Metric.COSINE)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)]))


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_a_budget_makes_a_collection_native_over_runs(old: str, new: str, tmp_path: Path) -> None:
    job = make(tmp_path, old, new, anchors=True, kernel=True)
    asked: dict[str, Any] = {"keep_anchors": tmp_path / "a.parquet"}
    job.run(**asked)
    recalls, shares = [recall(job)], [job.status().encoded]
    asked |= {"reembed_budget": "80 texts", "encoder": job.encoder}
    for expected in (80, 80, 80, 0):
        assert job.run(**asked).reembedded == expected
        recalls.append(recall(job))
        shares.append(job.status().encoded)
    assert shares == [60, 140, 220, 300, 300]
    assert recalls[0] < recalls[1] < recalls[2] < recalls[3] == recalls[4]
    assert recalls[3] > 0.999
    status = job.status()
    assert (status.translated, status.is_native) == (0, True)
    assert all(fields[ORIGIN_FIELD] == ENCODED for _, fields in contents(job.target).values())


def test_the_uncertain_and_the_asked_for_come_first(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True, kernel=True)
    kept = tmp_path / "a.parquet"
    fitted = load_translator(job.translator)
    _, told = fitted.transform_with_variance(fitted.inputs(job.old[:N], None))
    variances = dict(enumerate(told.tolist()[60:], start=60))
    assert len(set(variances.values())) > 200
    queries = tmp_path / "queries.npy"
    np.save(queries, np.repeat(job.new[[200]], 50, axis=0))
    with open_source(job.target) as target:
        [near] = target.search(job.new[[200]], 10)
    hits = {i: 51 if i in near.tolist() else 1 for i in variances}
    best = sorted(variances, key=lambda i: -variances[i] * hits[i])[:12]
    done = job.run(keep_anchors=kept, reembed_budget="12", encoder=job.encoder, queries=queries)
    assert done.reembedded == 12
    marked = {i for i, (_, p) in contents(job.target).items() if p[ORIGIN_FIELD] == ENCODED}
    assert marked - set(range(60)) == set(best)
    assert set(near.tolist()) - set(range(60)) <= marked


def test_a_budget_of_tokens_and_a_map_without_variance(tmp_path: Path) -> None:
    job = make(tmp_path)
    said: list[str] = []
    # A text of some 15 characters is 4 tokens where no tokenizer is at hand.
    done = job.run(reembed_budget="20 tokens", encoder=job.encoder, announce=said.append)
    assert done.reembedded == 5
    assert "tells no variance" in said[0]
    marked = [i for i, (_, p) in contents(job.target).items() if ORIGIN_FIELD in p]
    assert len(marked) == 5
    assert max(marked) - min(marked) > 20


def test_what_others_rewrote_is_not_reembedded(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.run()
    with editing(job.target) as target:
        target.upsert(points(job.new, list(range(100)), app=True))
    done = job.run(reembed_budget="1000", encoder=job.encoder)
    assert done.reembedded == 200
    assert all("app" in p for i, (_, p) in contents(job.target).items() if i < 100)
    assert job.status().is_native


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_cutover_asks_for_a_new_verification(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store, store)
    name = f"faiss:{tmp_path}/live.faiss" if store == "faiss" else f"qdrant:{tmp_path}/new-q/live"

    def verified() -> None:
        found = verify(job.source, job.target, job.translator)
        assert found.passed
        with open_records(job.state) as records:
            VerificationLog(records).add(followed_place(job.target), found)

    job.run()
    verified()
    with editing(job.source) as source:
        source.upsert(points(job.old, [7], n=-1))
    job.run()
    with open_records(job.state) as records, pytest.raises(NotVerifiedError, match="changed since"):
        cut_over(name, job.target, records)
    verified()
    with open_records(job.state) as records:
        cut_over(name, job.target, records)
    # By the readers' name it is the same collection with the same ledger.
    with editing(job.source) as source:
        source.upsert(points(job.old, [N + 1]))
    done = sync(job.source, name, job.translator, job.state)
    assert (done.arrived, done.adopted) == (1, 0)
    assert N + 1 in contents(name)
    status = job.status(job.source)
    assert status.readers == (collection_of(name),)
    assert status.verified is not None
    assert status.verified.changed_since
    assert status.pending is not None
    assert (status.pending.arrived, status.pending.vanished) == (0, 0)


def test_after_a_rollback_a_name_is_not_written_to(tmp_path: Path) -> None:
    job = make(tmp_path)
    name = f"faiss:{tmp_path}/live.faiss"
    for end in ("", ".jsonl", ".vecmigrate.json"):
        shutil.copy(f"{tmp_path}/old.faiss{end}", f"{tmp_path}/live.faiss{end}")
    with open_records(job.state) as records:
        cut_over(name, job.target, records, unverified=True)
    assert sync(job.source, name, job.translator, job.state).wrote == 0
    with open_records(job.state) as records:
        roll_back(name, records)
    with pytest.raises(MismatchError, match="was not written by vecmigrate migrate"):
        sync(job.source, name, job.translator, job.state)


def invoke(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "exit_code": done.exit_code}


def test_the_commands(tmp_path: Path) -> None:
    job = make(tmp_path)
    state = ["--state", str(job.state)]
    options = ["--translator", str(job.translator), *state]
    assert invoke("sync", job.source, job.target, *options)["changed"] == 0
    change_the_source(job)
    pending = invoke("status", job.target, "--source", job.source, *state)
    assert pending["pending"] == {"arrived": 5, "vanished": 3, "left_out": 0}
    assert invoke("sync", job.source, job.target, *options, "--dry-run")["changed"] == 3
    done = invoke("sync", job.source, job.target, *options)
    assert (done["arrived"], done["changed"], done["vanished"]) == (5, 3, 3)
    status = invoke("status", job.target, "--source", job.source, *state)
    assert status["pending"] == {"arrived": 0, "vanished": 0, "left_out": 0}
    assert status["last_sync"]["vanished"] == 3
    assert (status["translated"], status["native"]) == (N + 2, False)
    shown = CliRunner().invoke(app, ["status", job.target, *state]).stdout
    assert "302 (100.0%)" in shown
    refused = invoke("sync", job.target, job.source, *options)
    assert refused["exit_code"] == 5
    with open_records(job.state) as records:
        runs = records.execute("SELECT command, exit_code, counts FROM runs").fetchall()
    assert ("sync", 5, "{}") in runs
    assert any(command == "sync" and '"arrived": 5' in counts for command, _, counts in runs)


def sync_told_to_stop(job: Job) -> tuple[int | None, str]:
    """Send SIGTERM to a sync that has begun and has work left; None if it was done before."""
    ledger = ledger_path(job.state, job.target)
    process = Forked(
        "-m", "vecmigrate", "sync", job.source, job.target, "--translator", str(job.translator),
        "--state", str(job.state), "--batch-size", "1", "--json",
    )  # fmt: skip
    told = False
    while not told and process.poll() is None:
        time.sleep(0.005)
        if not ledger.exists():
            continue
        with closing(sqlite3.connect(ledger, timeout=60, isolation_level=None)) as connection:
            # While this is held the ledger cannot be written to: a run with points left cannot end.
            connection.execute("BEGIN IMMEDIATE")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables >= 3 and (
                0 < connection.execute("SELECT count(*) FROM points").fetchone()[0] < N
            ):
                process.send_signal(signal.SIGTERM)
                told = True
                time.sleep(0.2)
            connection.execute("ROLLBACK")
    out, _ = process.communicate()
    return (process.returncode if told else None), out


def test_sigterm_ends_it_and_the_same_command_continues(tmp_path: Path) -> None:
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        job = make(folder, "qdrant", "qdrant")
        job.forget()
        code, out = sync_told_to_stop(job)
        if code is not None:
            break
    assert code == 143, out
    assert "Run the same command to continue" in out
    done = job.run()
    assert 0 < done.adopted < N


def test_what_a_store_loads_otherwise_than_it_was_written_is_ours_still(tmp_path: Path) -> None:
    """Embedded Qdrant gives an updated vector other last bits each time that it is loaded."""
    job = make(tmp_path, "faiss", "qdrant")
    for number in range(3):
        with editing(job.source) as source:
            source.upsert(points(job.old, list(range(100)), n=-1 - number))
            changed = points(job.old, list(range(100, 200)), n=-1 - number)
            source.upsert(changed.with_vectors(np.ascontiguousarray(job.old[200 + number :][:100])))
        # Each sync loads the storage anew, as each run of the command does.
        assert job.run().changed == 200
    found = verify(job.source, job.target, job.translator, VerifyOptions(full=True))
    assert found.passed, found.failures
