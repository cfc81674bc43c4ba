"""Migrations that are killed, stopped or out of disk end as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.crash import (
    NEW_DIM,
    OLD_DIM,
    PAIRS,
    arguments,
    contents,
    is_unfinished,
    make_source,
    make_translator,
    migrate_with_kills,
    place,
    start,
    step_through,
    stepper,
)
from support.forked import Forked
from support.qdrant.loopback.server import Engine, RestServer
from support.small_disk import enlarge, small_disk

from vecmigrate import load_translator, migrate, open_sink, open_source
from vecmigrate.connector import Metric, TargetSpec, VectorBatch, id_array
from vecmigrate.errors import (
    InputError,
    LockedError,
    MismatchError,
    TargetExistsError,
    TerminatedError,
    UsageError,
    VecmigrateError,
    VerificationError,
    WriteError,
)
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock
from vecmigrate.state.migrations import MigrationTable
from vecmigrate.verification import verify

POINTS = {"faiss": 2000, "qdrant": 300}
BATCH = {"faiss": 20, "qdrant": 5}


class StoppedError(Exception):
    """What a test kills a migration with."""


def stopping_after(points: int) -> Any:
    seen = 0

    def progress(count: int) -> None:
        nonlocal seen
        seen += count
        if seen >= points:
            raise StoppedError

    return progress


def begin(source: str, target: str, folder: Path, points: int, **more: Any) -> None:
    with pytest.raises(StoppedError):
        migrate(
            source, target, folder / "translator", state=folder / "state.sqlite",
            batch_size=10, checkpoint_seconds=0, progress=stopping_after(points), **more,
        )  # fmt: skip


def finish(source: str, target: str, folder: Path, **more: Any) -> Any:
    return migrate(
        source, target, folder / "translator", state=folder / "state.sqlite",
        batch_size=10, checkpoint_seconds=0, **more,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_translator(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_killed_migration_ends_like_one_that_was_not(old: str, new: str, folder: Path) -> None:
    source = make_source(old, folder, POINTS[old])
    state = folder / "state.sqlite"
    whole, killed = place(new, folder, "whole"), place(new, folder, "killed")
    migrate(source, whole, folder / "translator", batch_size=BATCH[old])
    landed, result = migrate_with_kills(
        source, killed, folder / "translator", state,
        kills=2, points=POINTS[old], seed=7, batch=BATCH[old],
    )  # fmt: skip
    assert landed
    assert result["written"] == POINTS[old]
    assert contents(killed) == contents(whole)
    left = {path.name for path in folder.iterdir() if "staging" in path.name}
    assert not left


def test_a_migration_is_killed_before_some_of_its_steps(tmp_path: Path) -> None:
    rng = random.Random(0)
    with stepper() as killer:
        for old, new in PAIRS:
            folder = tmp_path / f"{old}-{new}"
            folder.mkdir()
            for ended in step_through(old, new, folder, killer, rng, every=300):
                assert ended.codes[0] == -signal.SIGKILL
                assert ended.same, ended


_DYING = """
import os, signal
from vecmigrate.cli import main
from vecmigrate.state.ledger import Ledger
from vecmigrate.state.migrations import MigrationTable
calls, done = 0, {kind}.{call}
def dying(*given):
    global calls
    calls += 1
    if calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    done(*given)
{kind}.{call} = dying
main()
"""


@pytest.mark.parametrize(("kind", "call"), [("Ledger", "commit"), ("MigrationTable", "save")])
@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_a_kill_between_two_records_leaves_nothing_unknown(
    old: str, new: str, kind: str, call: str, folder: Path
) -> None:
    source, target = make_source(old, folder, 60), place(new, folder, "new")
    state = folder / "state.sqlite"
    argv = arguments(source, target, folder / "translator", state, 10)
    with Forked("-c", _DYING.format(kind=kind, call=call), *argv) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert finish(source, target, folder).continued_after
    found = verify(source, target, folder / "translator", state=state, full=True)
    assert found.passed, found.failures


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("points", [10, 35, 60])
def test_what_was_written_is_not_written_again(
    old: str, new: str, points: int, folder: Path
) -> None:
    source = make_source(old, folder, 60)
    whole, target = place(new, folder, "whole"), place(new, folder, "new")
    migrate(source, whole, folder / "translator", batch_size=10)
    begin(source, target, folder, points)
    said: list[str] = []
    result = finish(source, target, folder, announce=said.append)
    # What stops the migration comes after the batch was written and made durable.
    written = -(-points // 10) * 10
    assert result.continued_after == written
    assert said == [f"continuing an earlier run after its first {written} points"]
    assert result.written == 60
    assert contents(target) == contents(whole)


def test_what_came_after_the_checkpoint_is_cut_off(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    whole, target = place("faiss", folder, "whole"), place("faiss", folder, "new")
    migrate(source, whole, folder / "translator", batch_size=10)
    begin(source, target, folder, 30)
    staging = next(path for path in folder.iterdir() if "staging" in path.name)
    for path in staging.iterdir():
        if path.stat().st_size and path.name not in ("lock", "run"):
            with path.open("ab") as file:
                file.write(b"torn")
    (staging / "index").write_bytes(b"half an index")
    finish(source, target, folder)
    assert contents(target) == contents(whole)


def test_a_run_killed_just_after_publishing_is_known_to_be_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in ("faiss", "qdrant"):
        source, target = make_source(store, folder, 60), place(store, folder, f"new-{store}")

        def killed(*_: object, **__: object) -> None:
            raise StoppedError

        with monkeypatch.context() as patched:
            patched.setattr("vecmigrate.migration.move.verify_ids", killed)
            with pytest.raises(StoppedError):
                finish(source, target, folder)
        said: list[str] = []
        result = finish(source, target, folder, announce=said.append)
        assert result.written == 60
        assert "has published the target already" in said[0]
        # And so is one that is done, as long as nothing is another.
        assert finish(source, target, folder).written == 60
        with pytest.raises(TargetExistsError):
            finish(source, target, folder, source_encoder="another")


def test_kept_anchors_are_counted_over_both_runs(folder: Path) -> None:
    from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy
    from vecmigrate.connector import EncoderIdentity

    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    with open_source(source) as opened:
        batch = next(opened.batches(60))
    rows = np.arange(0, 60, 2)
    card = AnchorCard(
        source=source, population=60, seed=0, strategy=Strategy.UNIFORM,
        target_encoder=EncoderIdentity(name="new", dimension=NEW_DIM), metric=Metric.COSINE,
    )  # fmt: skip
    anchors = AnchorSet(
        batch.ids[rows],
        batch.vectors[rows],
        np.eye(NEW_DIM, dtype=np.float32)[rows % NEW_DIM],
        card,
    )
    begin(source, target, folder, 30, keep_anchors=anchors)
    result = finish(source, target, folder, keep_anchors=anchors)
    assert result.continued_after == 30
    assert result.kept_anchors == 30
    begin(source, place("faiss", folder, "other"), folder, 30, keep_anchors=anchors)
    with pytest.raises(MismatchError, match="other anchors to keep"):
        finish(source, place("faiss", folder, "other"), folder)


def test_bad_vectors_are_skipped_over_both_runs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, OLD_DIM)).astype(np.float32)
    vectors[[3, 33, 55]] = 0
    source = f"faiss:{folder}/bad.faiss"
    with open_sink(source, TargetSpec(dimension=OLD_DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(60), vectors))
        sink.finish()
    target = place("faiss", folder, "new")
    begin(source, target, folder, 30, on_bad_vector="skip")
    with pytest.raises(MismatchError, match="another --on-bad-vector"):
        finish(source, target, folder, on_bad_vector="fail")
    result = finish(source, target, folder, on_bad_vector="skip")
    assert sorted(result.skipped_ids) == [3, 33, 55]
    assert (result.read, result.written) == (60, 57)


def test_a_bad_vector_is_left_out_without_beginning_anew(folder: Path) -> None:
    vectors = np.eye(60, OLD_DIM, dtype=np.float32) + 1
    vectors[45] = np.nan
    source, target = f"faiss:{folder}/bad.faiss", place("faiss", folder, "new")
    with open_sink(source, TargetSpec(dimension=OLD_DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(np.arange(60), vectors))
        sink.finish()
    with pytest.raises(InputError, match="45"):
        finish(source, target, folder)
    result = finish(source, target, folder, on_bad_vector="skip")
    assert result.continued_after == 40
    assert (result.written, result.skipped_ids) == (59, [45])


def test_another_job_is_not_continued(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    begin(source, target, folder, 30)
    (folder / "translator").rename(folder / "first")
    rng = np.random.default_rng(5)
    from vecmigrate import Ridge, save_translator

    other = Ridge().fit(rng.standard_normal((60, OLD_DIM)), rng.standard_normal((60, NEW_DIM)))
    save_translator(other, folder / "translator")
    with pytest.raises(MismatchError, match="another translator"):
        finish(source, target, folder)
    result = finish(source, target, folder, restart=True)
    assert result.continued_after == 0
    assert result.written == 60


def test_a_source_that_changes_meanwhile_is_told(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    index = folder / "old.faiss"

    def touch(_: int) -> None:
        index.touch()

    with pytest.raises(VerificationError, match="changed while it was read"):
        finish(source, target, folder, progress=touch, still=True)
    assert not (folder / "new.faiss").exists()
    begin(source, target, folder, 30)
    index.touch()
    with pytest.raises(MismatchError, match="the source has changed"):
        finish(source, target, folder)


def test_a_second_run_is_told_who_holds_the_job(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    seen: list[str] = []

    def again(_: int) -> None:
        if not seen:
            with pytest.raises(LockedError) as caught:
                finish(source, target, folder)
            seen.append(str(caught.value))

    finish(source, target, folder, progress=again)
    assert "process " in seen[0]
    assert " since 20" in seen[0]


def test_a_lock_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    for _ in range(2):
        with job_lock(tmp_path, "key", "a job"):
            pass


def test_sigterm_saves_and_ends_with_its_own_code(folder: Path) -> None:
    source, target = make_source("faiss", folder, 20_000), place("faiss", folder, "new")
    state = folder / "state.sqlite"
    process = start(source, target, folder / "translator", state, 20)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if state.exists():
            with open_state(state) as connection:
                job = MigrationTable(connection).find(source, target)
            if job is not None and job.written:
                break
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == 143, out
    assert "Run the same command to continue" in json.loads(out)["error"]["remedy"]
    assert not (folder / "new.faiss").exists()
    result = migrate(source, target, folder / "translator", state=state, batch_size=20)
    assert result.continued_after > 0
    assert result.written == 20_000


def test_stop_is_asked_after_each_batch(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    with pytest.raises(TerminatedError, match="stopped after 10 points"):
        finish(source, target, folder, stop=lambda: True)
    assert finish(source, target, folder).continued_after == 10


def test_without_a_translator_file_nothing_is_continued(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    with pytest.raises(UsageError, match="only a migration by a translator file"):
        migrate(source, place("faiss", folder, "new"), load_translator(folder / "translator"),
                state=folder / "state.sqlite")  # fmt: skip


def test_what_was_staged_and_is_gone_is_told(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    begin(source, target, folder, 30)
    staging = next(path for path in folder.iterdir() if "staging" in path.name)
    (staging / "vectors.f32").unlink()
    with pytest.raises(MismatchError, match=r"has lost vectors\.f32"):
        finish(source, target, folder)
    shutil.rmtree(staging)
    with pytest.raises(MismatchError, match="nothing is left"):
        finish(source, target, folder)
    assert finish(source, target, folder, restart=True).written == 60


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"no database, but long enough to be read as one's header" * 20, InputError, "is not a"),
        (None, WriteError, "cannot be opened"),
    ],
)
def test_what_is_no_state_file_is_refused(
    tmp_path: Path, content: bytes | None, kind: type[VecmigrateError], message: str
) -> None:
    path = tmp_path / "state.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(kind, match=message):
        open_state(path)


def test_state_files_of_others_and_of_the_future_are_refused(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "theirs") as theirs:
        theirs.execute("CREATE TABLE t (x)")
    with pytest.raises(InputError, match="is not a state file"):
        open_state(tmp_path / "theirs")
    with open_state(tmp_path / "ours") as ours:
        ours.execute("PRAGMA user_version = 99")
    with pytest.raises(MismatchError, match="of version 99"):
        open_state(tmp_path / "ours")


IDS = {
    "faiss": st.one_of(st.integers(0, 2**62), st.text(max_size=12)),
    "qdrant": st.one_of(st.integers(0, 2**62), st.uuids().map(str)),
}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def collections(ids: str) -> Any:
    """Points of a random collection: their ids, and payloads that may lack a text."""
    texts = st.one_of(st.none(), st.text(max_size=8), st.integers(0, 9))
    payloads = st.tuples(st.dictionaries(st.text(max_size=6), JSON, max_size=3), texts).map(
        lambda drawn: drawn[0] if drawn[1] is None else {**drawn[0], "text": drawn[1]}
    )
    return st.lists(
        st.tuples(IDS[ids], payloads), min_size=1, max_size=25, unique_by=lambda point: point[0]
    )


def write_points(uri: str, points: list[tuple[int | str, dict[str, Any]]]) -> None:
    ids, payloads = [i for i, _ in points], [payload for _, payload in points]
    vectors = np.random.default_rng(len(ids)).standard_normal((len(ids), OLD_DIM))
    with open_sink(uri, TargetSpec(dimension=OLD_DIM, metric=Metric.DOT)) as sink:
        sink.write(VectorBatch(id_array(ids), vectors.astype(np.float32), payloads))
        sink.finish()


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_any_collection_is_continued(old: str, new: str, folder: Path) -> None:
    numbers = itertools.count()

    @given(
        points=collections("qdrant" if "qdrant" in (old, new) else "faiss"),
        after=st.integers(1, 30),
    )
    @settings(deadline=None, max_examples=25 if old == new == "faiss" else 8)
    def continued(points: list[tuple[int | str, dict[str, Any]]], after: int) -> None:
        made = folder / str(next(numbers))
        made.mkdir()
        source, whole, target = (
            place(old, made, "old"), place(new, made, "whole"), place(new, made, "new")
        )  # fmt: skip
        write_points(source, points)
        options = {"batch_size": 3, "checkpoint_seconds": 0.0}
        migrate(source, whole, folder / "translator", batch_size=3)
        assert len(contents(whole)) == len(points)
        try:
            migrate(source, target, folder / "translator", state=made / "state.sqlite",
                    progress=stopping_after(after), **options)  # fmt: skip
        except StoppedError:
            migrate(source, target, folder / "translator", state=made / "state.sqlite", **options)
        assert contents(target) == contents(whole)
        shutil.rmtree(made)

    continued()


def test_points_that_are_deleted_while_it_runs_are_never_half_published(folder: Path) -> None:
    numbers = itertools.count()

    @given(
        gone=st.integers(0, 19),
        after=st.integers(1, 20),
        on_server=st.booleans(),
        still=st.booleans(),
    )
    @settings(deadline=None, max_examples=12)
    def told(gone: int, after: int, on_server: bool, still: bool) -> None:
        made = folder / str(next(numbers))
        made.mkdir()
        source = make_source("faiss", made, 20)
        engine = Engine()
        with RestServer(engine) as server:
            if on_server:
                copy = f"qdrant://127.0.0.1:{server.port}/old?grpc=false"
                with (
                    open_source(source) as opened,
                    open_sink(copy, TargetSpec.like(opened.describe())) as sink,
                ):
                    for batch in opened.batches(20):
                        sink.write(batch)
                    sink.finish()
                source = copy
            target, seen = f"faiss:{made}/new.faiss", 0
            point = gone * 3 + 1

            def delete(count: int) -> None:
                nonlocal seen
                if seen < after <= seen + count:
                    if on_server:
                        engine.local.delete("old", [point])
                    else:
                        lose(made / "old.faiss", point)
                seen += count

            options = {"state": made / "state.sqlite", "batch_size": 4, "still": still}
            if still:
                with pytest.raises(VerificationError, match="changed while it was read"):
                    migrate(source, target, folder / "translator", progress=delete, **options)
                assert not (made / "new.faiss").exists()
                migrate(source, target, folder / "translator", **options)
            else:
                migrate(source, target, folder / "translator", progress=delete, **options)
            assert set(contents(target)) == {i * 3 + 1 for i in range(20)} - {point}
        shutil.rmtree(made)

    told()


def lose(path: Path, point: int) -> None:
    """Delete a point of an index file as an application does: a new file in its place."""
    index = faiss.read_index(str(path))
    index.remove_ids(np.array([point]))
    faiss.write_index(index, str(path.with_suffix(".part")))
    path.with_suffix(".part").replace(path)


def is_published(target: str) -> bool:
    try:
        return not is_unfinished(target)
    except InputError:
        return False


@pytest.mark.parametrize(
    ("store", "points", "size"), [("faiss", 6000, "300k"), ("qdrant", 1000, "1m")]
)
def test_a_full_disk_leaves_all_for_the_next_run(
    store: str, points: int, size: str, folder: Path
) -> None:
    with small_disk(folder, size) as disk:
        source = make_source("faiss", folder, points)
        whole, target = place(store, folder, "whole"), place(store, disk, "new")
        migrate(source, whole, folder / "translator", batch_size=100)
        before = contents(source)
        command = start(source, target, folder / "translator", folder / "state.sqlite", 100)
        out, _ = command.communicate()
        assert command.returncode == 9, out
        assert re.search("free disk space|disk.s free space", json.loads(out)["error"]["remedy"])
        assert not is_published(target)
        assert contents(source) == before
        enlarge(disk, "20m")
        result = migrate(source, target, folder / "translator", state=folder / "state.sqlite",
                         batch_size=100)  # fmt: skip
        assert result.continued_after > 0
        assert contents(target) == contents(whole)
