"""Migrations on a real Ray cluster end like those of one process, workers and driver killed too."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from support.crash import NEW_DIM, OLD_DIM, contents, make_source, make_translator, place
from support.dry_run_corpus import make_dry_run_corpus
from support.embedding_server import EmbeddingServer, Reply
from support.job_files import done_now, write_job
from support.live import NEW, make
from support.qdrant.places import open_place
from typer.testing import CliRunner

from vecmigrate import (
    KernelRidge,
    load_translator,
    migrate,
    open_sink,
    open_source,
    save_translator,
)
from vecmigrate.anchors import AnchorCard, AnchorSet, Strategy
from vecmigrate.cli import app
from vecmigrate.connector import (
    Absent,
    EncoderIdentity,
    Metric,
    TargetSpec,
    VectorBatch,
    Waiting,
    id_array,
)
from vecmigrate.encoders import open_encoder
from vecmigrate.errors import (
    BadVectorError,
    InputError,
    RefusedError,
    TerminatedError,
    UsageError,
    VecmigrateError,
    WriteError,
)
from vecmigrate.io.atomic import TEMPORARY
from vecmigrate.migration import MigrationResult
from vecmigrate.migration.engines import LocalEngine
from vecmigrate.migration.engines.partitions import (
    PartitionWork,
    read_part,
    translate_partition,
    write_part,
)
from vecmigrate.migration.engines.permit import PREFIX, Permit, WithdrawnError, issue_permit
from vecmigrate.migration.engines.ray import RayEngine
from vecmigrate.migration.reembed import EmbeddingWorker, OnMissingText
from vecmigrate.migration.translate import Spent, StopAskedError, Translation
from vecmigrate.points.screening import OnBadVector, Skipped
from vecmigrate.state import STATE_VARIABLE, open_state
from vecmigrate.state.migrations import MigrationTable
from vecmigrate.sync import sync

POINTS, BATCH = 2000, 20
ON_RAY = {"batch_size": BATCH, "engine": RayEngine(workers=2, partition_batches=20)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'vecmigrate[ray]'")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_translator(tmp_path)
    return tmp_path


def make_ivf(folder: Path) -> str:
    """An IVF index whose rows are in no order of their ids, with a sidecar."""
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((POINTS, OLD_DIM), dtype=np.float32)
    index = faiss.index_factory(OLD_DIM, "IVF12,Flat", faiss.METRIC_L2)
    index.train(vectors)
    index.add_with_ids(vectors, rng.permutation(POINTS) * 7)
    faiss.write_index(index, str(folder / "old.faiss"))
    with (folder / "old.faiss.jsonl").open("w") as file:
        file.writelines(
            json.dumps({"id": i * 7, "text": f"the text {i}", "n": [i, None]}) + "\n"
            for i in range(POINTS)
        )
    return f"faiss:{folder}/old.faiss"


def copy(source: str, target: str, metric: Metric = Metric.COSINE) -> None:
    spec = TargetSpec(dimension=OLD_DIM, metric=metric, text_field="text")
    with open_source(source) as reader, open_sink(target, spec) as sink:
        for batch in reader.batches(500):
            sink.write(batch)
        sink.finish()


@contextmanager
def killing(find: Callable[[], int | None]) -> Iterator[list[int]]:
    """Kill the first worker that is found, once."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and not killed:
            worker = find()
            if worker is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield killed
    over.set()
    watcher.join()


def writing_a_part(folder: Path) -> int | None:
    """Return a worker that has written half a part."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        return int(path.name.removeprefix(TEMPORARY).partition("-")[0])
    return None


def at_work(task: str) -> int | None:
    """Return a worker of this process's cluster that is at a task."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "cmdline").read_text().startswith(f"ray::{task}"):
                raylet = (path / "stat").read_text().rpartition(")")[2].split()[1]
                driver = Path(f"/proc/{raylet}/stat").read_text().rpartition(")")[2].split()[1]
                if int(driver) == os.getpid():
                    return int(path.name)
    return None


@pytest.mark.parametrize(
    ("old", "new"), [("flat", "faiss"), ("ivf", "faiss"), ("flat", "qdrant"), ("served", "faiss")]
)
def test_a_killed_worker_changes_nothing(old: str, new: str, folder: Path, cluster: None) -> None:
    with open_place("rest", folder) as server:
        # The embedded engine, behind the server too, is slow.
        points = POINTS if (old, new) in {("flat", "faiss"), ("ivf", "faiss")} else POINTS // 2
        source = make_ivf(folder) if old == "ivf" else make_source("faiss", folder, points)
        if old == "served":
            flat, source = source, server.uri(server.name())
            copy(flat, source)
        whole, target = place(new, folder, "whole"), place(new, folder, "new")
        migrate(source, whole, folder / "translator", batch_size=BATCH)
        with killing(partial(writing_a_part, folder / "parts")) as killed:
            result = migrate(
                source, target, folder / "translator", state=folder / "state.sqlite", **ON_RAY
            )
    assert len(killed) == 1
    assert result.written == points
    assert contents(target) == contents(whole)
    if new == "faiss":
        for end in (".faiss", ".faiss.jsonl"):
            assert (folder / f"new{end}").read_bytes() == (folder / f"whole{end}").read_bytes()
    assert not any((folder / "parts").iterdir())


def some_anchors() -> AnchorSet:
    rng = np.random.default_rng(5)
    old, new = (rng.standard_normal((5, d)).astype(np.float32) for d in (OLD_DIM, NEW_DIM))
    encoder = EncoderIdentity(name="new", dimension=NEW_DIM)
    card = AnchorCard(
        source="faiss:old", population=5, seed=0, strategy=Strategy.UNIFORM,
        target_encoder=encoder, metric=Metric.COSINE,
    )  # fmt: skip
    return AnchorSet(np.arange(5) * 300 + 1, old, new, card)


def test_workers_write_to_a_server_themselves(folder: Path, cluster: None) -> None:
    source, kept = f"faiss:{folder}/dot.faiss", some_anchors()
    # Under the cosine the loopback engine rounds a point that is written again another way.
    copy(make_source("faiss", folder, POINTS), source, Metric.DOT)
    with open_place("rest", folder) as server, server.client() as client:
        whole = server.uri(server.name())
        local = migrate(source, whole, folder / "translator", batch_size=BATCH, keep_anchors=kept)
        name = server.name()

        def half_done() -> int | None:
            there = client.collection_exists(name) and client.count(name).count
            return at_work("move_partition") if there else None

        def move(**more: Any) -> MigrationResult:
            return migrate(
                source, server.uri(name), folder / "translator", keep_anchors=kept,
                state=folder / "state.sqlite", checkpoint_seconds=0, **ON_RAY, **more,
            )  # fmt: skip

        with killing(half_done) as killed, pytest.raises(TerminatedError):
            move(stop=lambda: bool(killed))
        assert len(killed) == 1
        assert at_work("move_partition") is None
        assert not list((folder / "parts").rglob(f"{PREFIX}*"))
        result = move()
        assert result.continued_after > 0
        assert result.written == local.written == POINTS
        assert result.kept_anchors == local.kept_anchors == 5
        assert contents(server.uri(name)) == contents(whole)
    assert not any((folder / "parts").iterdir())


def test_large_vectors_are_the_same_to_the_last_bit(tmp_path: Path, cluster: None) -> None:
    rng = np.random.default_rng(4)
    old, new = (rng.standard_normal((3000, d)).astype(np.float32) for d in (384, 768))
    save_translator(KernelRidge().fit(old[:300], new[:300]), tmp_path / "translator")
    index = faiss.IndexFlatIP(384)
    index.add(old)
    faiss.write_index(index, str(tmp_path / "old.faiss"))
    source = f"faiss:{tmp_path}/old.faiss"
    migrate(
        source, f"faiss:{tmp_path}/whole.faiss", tmp_path / "translator", batch_size=200,
        engine=LocalEngine(workers=3),
    )  # fmt: skip
    more = {**ON_RAY, "batch_size": 200}
    migrate(source, f"faiss:{tmp_path}/new.faiss", tmp_path / "translator", **more)
    assert (tmp_path / "new.faiss").read_bytes() == (tmp_path / "whole.faiss").read_bytes()


def test_bad_vectors_are_left_out_or_refused_as_in_one_process(folder: Path, cluster: None) -> None:
    vectors = np.random.default_rng(3).standard_normal((400, OLD_DIM), dtype=np.float32)
    vectors[[5, 60, 61, 399]] = 0
    vectors[200, 3] = np.nan
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(vectors)
    faiss.write_index(index, str(folder / "old.faiss"))
    source = f"faiss:{folder}/old.faiss"
    refusals = []
    for more in ({"batch_size": BATCH}, ON_RAY):
        with pytest.raises(BadVectorError) as refused:
            migrate(source, f"faiss:{folder}/none.faiss", folder / "translator", **more)
        refusals.append(str(refused.value))
    assert refusals[0] == refusals[1]
    results = [
        migrate(
            source, f"faiss:{folder}/{name}.faiss", folder / "translator",
            on_bad_vector="skip", **more,
        )
        for name, more in (("whole", {"batch_size": BATCH}), ("new", ON_RAY))
    ]  # fmt: skip
    assert results[1].skipped_ids == results[0].skipped_ids == [5, 60, 61, 200, 399]
    assert (folder / "new.faiss").read_bytes() == (folder / "whole.faiss").read_bytes()


def test_embedded_storage_is_refused_before_anything_is_made(folder: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'vecmigrate[ray]'")
    source = make_source("qdrant", folder, 30)
    before = sorted(folder.rglob("*.faiss*"))
    with pytest.raises(UsageError, match="--engine local"):
        migrate(source, f"faiss:{folder}/new.faiss", folder / "translator", **ON_RAY)
    assert sorted(folder.rglob("*.faiss*")) == before


def start_on_ray(source: str, target: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "vecmigrate", "migrate", source, target, "--engine", "ray",
        "--workers", "2", "--translator", str(folder / "translator"), "--batch-size", str(BATCH),
        "--state", str(folder / "state.sqlite"), "--checkpoint-seconds", "0", *more,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def whole_parts(folder: Path) -> dict[Path, int]:
    """Return the parts that are written to their end, and which files they are."""
    found: dict[Path, int] = {}
    for path in (folder / "parts").rglob("[!.]*.part"):
        # It may be removed, or get its name, meanwhile.
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_ino
    return found


def written(folder: Path) -> int:
    """How many points are durable at the target."""
    with closing(open_state(folder / "state.sqlite")) as connection:
        job = MigrationTable(connection).find(
            f"faiss:{folder}/old.faiss", f"faiss:{folder}/new.faiss"
        )
    return 0 if job is None else job.written


def wait_for(process: subprocess.Popen[str], folder: Path, points: int, parts: int) -> None:
    """Wait until so many points are durable and so many parts wait to be written."""
    state = folder / "state.sqlite"
    while process.poll() is None:
        if state.exists() and len(whole_parts(folder)) >= parts and written(folder) >= points:
            return
        time.sleep(0.01)


def test_a_killed_or_stopped_driver_is_continued(folder: Path, cluster: None) -> None:
    import ray

    source, target = make_source("faiss", folder, POINTS), f"faiss:{folder}/new.faiss"
    whole = f"faiss:{folder}/whole.faiss"
    migrate(source, whole, folder / "translator", batch_size=BATCH)
    # Slow to write, so that parts lie there when it is killed.
    slow = ("--max-rate", "200")
    killed = start_on_ray(source, target, folder, *slow)
    wait_for(killed, folder, 60, 3)
    killed.send_signal(signal.SIGKILL)
    out, err = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, out + err
    left, more = whole_parts(folder), written(folder) + 3 * BATCH
    assert len(left) >= 3

    # The first one's cluster ended with it; the others join the one that is here.
    here = ("--ray-address", ray.get_runtime_context().gcs_address)
    stopped = start_on_ray(source, target, folder, *slow, *here)
    wait_for(stopped, folder, more, 3)
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate()
    assert stopped.returncode == 143, out + err
    kept = whole_parts(folder)
    assert len(left.items() & kept.items()) >= 2

    last = start_on_ray(source, target, folder, "--json", *here)
    with killing(partial(writing_a_part, folder / "parts")):
        out, err = last.communicate()
    assert last.returncode == 0, out + err
    result = json.loads(out)
    assert result["written"] == POINTS
    assert result["continued_after"] >= more
    assert not err
    assert ray.cluster_resources()["CPU"] == 2
    assert contents(target) == contents(whole)
    assert (folder / "new.faiss").read_bytes() == (folder / "whole.faiss").read_bytes()


@pytest.mark.parametrize("ids", [[1, 2, 3], [1, "ü-2", 2**64 - 1]])
def test_a_part_holds_its_batches_whole(ids: list[int | str], tmp_path: Path) -> None:
    vectors = np.arange(3 * NEW_DIM, dtype=np.float32).reshape(3, NEW_DIM) / 7
    payloads = [{"a": [1, None, 0.1]}, {}, {"text": "漢 \ud800"}]
    batches = [
        VectorBatch(id_array(ids), vectors, payloads, "one"),
        VectorBatch(np.array([9]), vectors[:1], None, "two"),
    ]
    skipped = Skipped()

    def reading() -> Iterator[VectorBatch]:
        for batch in batches:
            skipped.ids.append(f"before {batch.cursor}")
            yield batch
        skipped.ids.append("at the end")

    bought = Spent("p.part", 3, 12)
    write_part(tmp_path / "p.part", reading(), NEW_DIM, skipped, lambda: bought)
    assert [path.name for path in tmp_path.iterdir()] == ["p.part"]
    read = list(read_part(tmp_path / "p.part"))
    assert [r.skipped for r in read] == [["before one"], ["before two"], ["at the end"]]
    # Told with the first: a run that stops at the last cursor does not read the part again.
    assert [r.spent.texts for r in read] == [3, 0, 0]
    for wrote, found in zip(batches, read, strict=False):
        assert found.batch.ids.tolist() == wrote.ids.tolist()
        assert found.batch.ids.dtype == wrote.ids.dtype
        assert found.batch.payloads == wrote.payloads
        assert found.batch.cursor == wrote.cursor
        np.testing.assert_array_equal(found.batch.vectors, wrote.vectors)
    assert len(read[2].batch) == 0


def some_work(folder: Path) -> PartitionWork:
    source = make_source("faiss", folder, 30)
    with open_source(source) as driver:
        return PartitionWork(
            source,
            str(Path.cwd()),
            driver.fingerprint(),
            OnBadVector.FAIL,
            Absent.BAD,
            BATCH,
        )


def test_a_worker_that_sees_another_source_is_refused(folder: Path) -> None:
    seen, permit = some_work(folder), issue_permit(folder)
    translator = Translation(load_translator(folder / "translator"))
    part = folder / "p.part"
    assert translate_partition(seen, translator, "[0, 30]", part, permit)
    part.unlink()
    changed = replace(seen, fingerprint=f"{seen.fingerprint} of another")
    with pytest.raises(InputError, match="not the same to a worker"):
        translate_partition(changed, translator, "[0, 30]", part, permit)
    assert not part.exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_task_without_a_permit_does_nothing(begun: bool, folder: Path) -> None:
    work, translator = some_work(folder), Translation(load_translator(folder / "translator"))
    before = sorted(folder.iterdir())
    permit = issue_permit(folder)
    if begun:
        with permit.at_work():
            pass
    # What tells whether the driver has to wait for the task.
    assert permit.withdraw() is begun
    assert not translate_partition(work, translator, "[0, 30]", folder / "p.part", permit)
    assert sorted(folder.iterdir()) == before


def test_a_task_stops_after_the_batch_in_hand(tmp_path: Path) -> None:
    permit = issue_permit(tmp_path)
    with permit.at_work():
        pass
    taken: list[int] = []

    def stopped() -> None:
        # Another worker goes on where the first has died.
        with permit.at_work():
            for number in permit.each(range(5)):
                taken.append(number)
                if number == 2:
                    assert permit.withdraw()

    with pytest.raises(WithdrawnError):
        stopped()
    assert taken == [0, 1, 2]


def test_a_task_that_waits_for_a_server_stops(tmp_path: Path) -> None:
    permit = issue_permit(tmp_path)

    def stopped() -> None:
        with permit.at_work(), Waiting("a server", None) as waiting:
            permit.withdraw()
            waiting.pause(3600, "away")

    with pytest.raises(WithdrawnError):
        stopped()


def test_a_folder_that_workers_do_not_see_is_told(
    folder: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(here: Path) -> Permit:
        permit = issue_permit(here)
        permit.withdraw()
        return permit

    monkeypatch.setattr("vecmigrate.migration.engines.part_stream.issue_permit", not_here)
    source = make_source("faiss", folder, 300)
    with pytest.raises(WriteError, match="--parts"):
        migrate(source, f"faiss:{folder}/new.faiss", folder / "translator", **ON_RAY)
    assert not (folder / "new.faiss").exists()


def test_a_run_may_be_stopped_at_any_instant(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'vecmigrate[ray]'")
    tests = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "support.ray_stops", str(tmp_path), "200"],
        capture_output=True, text=True, cwd=tests,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def reading() -> Iterator[VectorBatch]:
        yield VectorBatch(np.array([9]), np.ones((1, NEW_DIM), np.float32))
        raise RefusedError("no", remedy="none")

    with pytest.raises(RefusedError):
        write_part(tmp_path / "p.part", reading(), NEW_DIM, Skipped())
    assert not list(tmp_path.iterdir())


def test_a_job_s_file_chooses_the_engine(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    make_dry_run_corpus(tmp_path)
    job = write_job(tmp_path, more='[migrate]\nengine = "ray"\nworkers = 2')
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    # What tells that tasks did it: nothing else makes this folder.
    assert (tmp_path / ".vecmigrate" / "parts").is_dir()


@pytest.mark.parametrize("first", ["ray", "local"])
def test_the_engine_may_change_on_the_way(first: str, folder: Path, cluster: None) -> None:
    source, target = make_source("faiss", folder, 1000), f"faiss:{folder}/new.faiss"
    migrate(source, f"faiss:{folder}/whole.faiss", folder / "translator", batch_size=BATCH)
    engines: list[dict[str, Any]] = [ON_RAY, {"batch_size": BATCH}]
    begins, ends = engines if first == "ray" else reversed(engines)
    more = {"state": folder / "state.sqlite", "checkpoint_seconds": 0}
    done: list[int] = []
    with pytest.raises(TerminatedError):
        migrate(
            source, target, folder / "translator", **begins, **more,
            progress=done.append, stop=lambda: sum(done) >= 260,
        )  # fmt: skip
    result = migrate(source, target, folder / "translator", **ends, **more)
    assert result.continued_after == 260
    assert (folder / "new.faiss").read_bytes() == (folder / "whole.faiss").read_bytes()


def test_an_error_comes_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(BadVectorError("bad, ids 1", remedy="Mend it.")))
    assert type(error) is BadVectorError
    assert isinstance(error, VecmigrateError)
    assert str(error) == "bad, ids 1. Mend it."


def test_without_ray_the_error_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = make_source("faiss", folder, 30)
    arguments = [
        "migrate", source, f"faiss:{folder}/new.faiss", "--engine", "ray",
        "--translator", str(folder / "translator"), "--state", str(folder / "state.sqlite"),
    ]  # fmt: skip
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 8
    assert "pip install 'vecmigrate[ray]'" in ended.stderr
    assert not (folder / "new.faiss").exists()


def test_a_cluster_that_does_not_answer_is_told_at_once(folder: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'vecmigrate[ray]'")
    source = make_source("faiss", folder, 30)
    before = sorted(folder.rglob("*.faiss*"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # Bound and not listening: nobody answers here.
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        arguments = [
            "migrate", source, f"faiss:{folder}/new.faiss", "--engine", "ray",
            "--ray-address", address, "--translator", str(folder / "translator"),
            "--state", str(folder / "state.sqlite"),
        ]  # fmt: skip
        ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 7
    assert f"no Ray cluster at {address}" in ended.stderr
    assert sorted(folder.rglob("*.faiss*")) == before


@pytest.mark.parametrize(
    ("given", "unused"),
    [(["--parts", "parts"], "parts"), (["--engine", "ray", "--device", "cuda"], "a device")],
)
def test_options_of_another_engine_are_refused(folder: Path, given: list[str], unused: str) -> None:
    source = make_source("faiss", folder, 30)
    arguments = [
        "migrate", source, f"faiss:{folder}/new.faiss", *given,
        "--translator", str(folder / "translator"), "--state", str(folder / "state.sqlite"),
    ]  # fmt: skip
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert f"no use for: {unused}" in ended.stderr


OPTIONS = f"&dimensions={NEW_DIM}&normalize=true&batch_size=10&in_flight=1&max_retries=0"


def test_workers_embed_as_one_process_does(
    cluster: None, server: EmbeddingServer, folder: Path
) -> None:
    source, whole = make_source("faiss", folder, 400), f"faiss:{folder}/whole.faiss"
    target, state = f"faiss:{folder}/new.faiss", folder / "s.sqlite"
    given: dict[str, Any] = {
        "encoder": server.name(OPTIONS), "on_missing_text": "skip", "batch_size": BATCH,
    }  # fmt: skip
    migrate(source, whole, **given)
    server.seen.clear()
    given["engine"] = RayEngine(workers=2)
    with pytest.raises(TerminatedError):
        migrate(
            source, target, state=state, checkpoint_seconds=0,
            stop=lambda: server.asked().total() > 120, **given,
        )  # fmt: skip
    done: list[int] = []
    result = migrate(source, target, state=state, progress=done.append, **given)
    assert contents(target) == contents(whole)
    assert len(result.skipped_ids) == 80
    assert len(server.asked()) == 320
    # A worker that is told to end has its request answered first.
    assert server.asked().total() == 320
    assert result.embedded is not None
    assert result.embedded.texts == 320
    assert not list((state.parent / "parts").rglob("*.part"))


def test_what_a_stopped_worker_bought_for_a_part_is_on_its_account(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    encoder = open_encoder(server.name(OPTIONS))
    worker = EmbeddingWorker(
        server.name(OPTIONS), encoder.identity, "text", OnMissingText.FAIL, None, None, ()
    )
    texts = [f"text {i}" for i in range(25)]
    batch = VectorBatch(
        np.arange(25), np.zeros((25, 2), np.float32), [{"text": text} for text in texts]
    )
    part, asked = tmp_path / "one.part", iter([False, True])
    with (
        pytest.raises(StopAskedError),
        worker.opened(part, Skipped(), lambda: next(asked, True)) as (converter, _),
    ):
        converter.convert(batch)
    paid = server.asked().total()
    assert 0 < paid < 25
    with worker.opened(part, Skipped(), lambda: False) as (converter, spent):
        converter.convert(batch)
        assert (spent().texts, server.asked().total()) == (25, 25)


def test_workers_translate_and_embed(cluster: None, server: EmbeddingServer, folder: Path) -> None:
    job = make(folder, anchors=True, kernel=True)
    encoder = server.name(f"&dimensions={NEW}&normalize=true").replace("model-a", "new-model")
    given: dict[str, Any] = {
        "encoder": encoder, "reembed": "50%", "keep_anchors": folder / "a.parquet",
        "batch_size": BATCH,
    }  # fmt: skip
    here, there = f"faiss:{folder}/here.faiss", f"faiss:{folder}/there.faiss"
    migrate(job.source, here, job.translator, **given)
    server.seen.clear()
    engine = RayEngine(workers=2)
    result = migrate(job.source, there, job.translator, engine=engine, **given)
    assert contents(there) == contents(here)
    assert result.kept_anchors == 150
    assert server.asked().total() == len(server.asked()) == 90


def test_workers_leave_out_texts_that_the_encoder_does_not_take(
    cluster: None, server: EmbeddingServer, folder: Path
) -> None:
    source, state = make_source("faiss", folder, 200), folder / "s.sqlite"
    server.rule = lambda body: (
        Reply(400, {"error": {"message": "too long"}}) if "text 7" in body["input"] else None
    )
    given: dict[str, Any] = {
        "encoder": server.name(OPTIONS), "batch_size": BATCH, "engine": RayEngine(workers=2),
        "on_missing_text": "skip",
    }  # fmt: skip
    result = migrate(source, f"faiss:{folder}/new.faiss", state=state, **given)
    assert (result.written, len(result.skipped_ids)) == (159, 41)
    [point] = result.refused_ids
    assert point in result.skipped_ids


def test_workers_write_what_they_embed_to_a_server(
    cluster: None, server: EmbeddingServer, folder: Path
) -> None:
    source = make_source("faiss", folder, 200)
    given = {"encoder": server.name(OPTIONS), "on_missing_text": "skip", "batch_size": BATCH}
    with open_place("rest", folder) as here:
        target = here.uri(here.name())
        engine = RayEngine(workers=2, partition_batches=2)
        state = folder / "s.sqlite"
        result = migrate(source, target, state=state, engine=engine, **given)
        assert (result.written, result.kept_anchors) == (160, 160)
        assert server.asked().total() == 160
        assert result.embedded is not None
        assert result.embedded.texts == 160
        assert sync(source, target, None, state, **{**given, "batch_size": 100}).wrote == 0


def test_an_encoder_that_workers_cannot_share_is_refused(
    cluster: None, server: EmbeddingServer, folder: Path
) -> None:
    source, target = make_source("faiss", folder, 20), f"faiss:{folder}/new.faiss"
    engine = RayEngine(workers=2)
    limited = server.name(f"{OPTIONS}&requests_per_minute=6000")
    opened: Any = open_encoder(server.name(OPTIONS))
    for encoder in (limited, opened):
        with pytest.raises(UsageError, match="workers"):
            migrate(source, target, encoder=encoder, on_missing_text="skip", engine=engine)
    with pytest.raises(UsageError, match="--budget"):
        migrate(source, target, encoder=server.name(OPTIONS), budget=5, engine="ray")
    assert not (folder / "new.faiss").exists()


def test_a_killed_worker_costs_no_more_than_what_was_in_flight(
    cluster: None, server: EmbeddingServer, folder: Path
) -> None:
    source, target = make_source("faiss", folder, 400), f"faiss:{folder}/new.faiss"

    def half_done() -> int | None:
        return at_work("translate_partition") if server.asked().total() > 100 else None

    with killing(half_done) as killed:
        result = migrate(
            source, target, encoder=server.name(OPTIONS), on_missing_text="skip", batch_size=100,
            engine=RayEngine(workers=2), state=folder / "s.sqlite",
        )  # fmt: skip
    assert len(killed) == 1
    assert result.written == 320
    assert len(server.asked()) == 320
    assert server.asked().total() <= 320 + 10
