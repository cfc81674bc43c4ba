"""The state file: runs, faults of its disk, and what it is found by."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.crash import make_source, make_translator, place, start
from support.qdrant.loopback.server import Engine, RestServer
from support.small_disk import small_disk

from vecmigrate import migrate, open_source, patience
from vecmigrate.errors import UnreachableError, WriteError
from vecmigrate.state import open_state, transaction
from vecmigrate.state.migrations import job_key
from vecmigrate.state.runs import RunLog


class StoppedError(Exception):
    """What a test kills a migration with."""


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(500))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_translator(tmp_path)
    return tmp_path


def test_runs_are_recorded_with_their_exit_codes(folder: Path) -> None:
    source, target = make_source("faiss", folder, 60), place("faiss", folder, "new")
    state = folder / "state.sqlite"
    assert start(source, target, folder / "translator", state, 10).wait() == 0
    assert start("faiss:none", target, folder / "translator", state, 10).wait() == 3
    with closing(open_state(state)) as connection:
        failed, done = RunLog(connection).latest(10)
    assert (done.command, done.source, done.target) == ("migrate", source, target)
    assert (done.exit_code, done.message, done.counts["written"]) == (0, None, 60)
    assert done.ended_at is not None
    assert failed.exit_code == 3
    assert failed.message is not None
    assert "faiss:none" in failed.source


def test_ctrl_c_keeps_what_was_written(folder: Path) -> None:
    source, target = make_source("faiss", folder, 20_000), place("faiss", folder, "new")
    state = folder / "state.sqlite"
    # A child inherits that Ctrl-C is ignored, as in a job in a script's background.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = start(source, target, folder / "translator", state, 20)
    signal.signal(signal.SIGINT, before)
    while not list(folder.glob(".new.faiss*/vectors.f32")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130, out
    result = migrate(source, target, folder / "translator", state=state, batch_size=500)
    assert result.written == 20_000
    with closing(open_state(state)) as connection:
        assert RunLog(connection).latest(1)[0].exit_code == 130


def test_a_server_that_is_gone_is_continued_when_it_is_back(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    engine = Engine()
    with RestServer(engine) as server:
        target = f"qdrant://127.0.0.1:{server.port}/new?retries=0&grpc=false"
        options = {"state": folder / "state.sqlite", "batch_size": 10, "checkpoint_seconds": 0.0}

        def progress(_: int) -> None:
            engine.faults.extend([503] * 50)

        with patience(0), pytest.raises(UnreachableError):
            migrate(source, target, folder / "translator", progress=progress, **options)
        assert engine.local.collection_exists("new")
        engine.faults.clear()
        result = migrate(source, target, folder / "translator", **options)
    assert (result.continued_after, result.written) == (10, 60)


PLACES = ("faiss:{}new.faiss", "parquet:{}new", "npy:{}new.npy", "lancedb:{}db/new")


@pytest.mark.parametrize("place", [*PLACES, "qdrant:{}storage/new?vector=v", "qdrant-edge:{}new"])
def test_a_job_is_the_same_from_any_directory(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source("faiss", folder, 60)
    (folder / "below").mkdir()
    keys = []
    for here, up in ((folder, ""), (folder / "below", "../")):
        monkeypatch.chdir(here)
        keys.append(job_key(f"faiss:{up}old.faiss", place.format(up)))
    assert keys[0] == keys[1]
    # Of two directories that share a state file, each has a job of its own.
    assert keys[0] != job_key("faiss:../old.faiss", place.format(""))


@pytest.mark.parametrize("place", PLACES)
def test_a_job_is_continued_from_another_directory(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source("faiss", folder, 60)
    options = {"state": folder / "state.sqlite", "batch_size": 10, "checkpoint_seconds": 0.0}

    def progress(_: int) -> None:
        raise StoppedError

    monkeypatch.chdir(folder)
    target = place.format("")
    with pytest.raises(StoppedError):
        migrate("faiss:old.faiss", target, "translator", progress=progress, **options)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    target = place.format("../")
    for number in range(2):
        result = migrate("faiss:../old.faiss", target, "../translator", **options)
        assert result.written == 60
        assert number or result.continued_after == 10
    assert result.target.count == 60


@pytest.mark.parametrize("place", PLACES)
def test_two_directories_that_share_a_state_file_have_two_jobs(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, translator = make_source("faiss", folder, 60), folder / "translator"
    options = {"state": folder / "state.sqlite", "batch_size": 10, "checkpoint_seconds": 0.0}
    target = place.format("")

    def progress(_: int) -> None:
        raise StoppedError

    for name in ("one", "other"):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        with pytest.raises(StoppedError):
            migrate(source, target, translator, progress=progress, **options)
    for name in ("one", "other"):
        monkeypatch.chdir(folder / name)
        assert migrate(source, target, translator, **options).continued_after == 10
        with open_source(target) as made:
            assert made.describe().count == 60


def test_a_job_that_an_earlier_version_recorded_is_continued(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, state = make_source("faiss", folder, 60), folder / "state.sqlite"
    options = {"state": state, "batch_size": 10, "checkpoint_seconds": 0.0}

    def progress(_: int) -> None:
        raise StoppedError

    monkeypatch.chdir(folder)
    with pytest.raises(StoppedError):
        migrate(source, "parquet:new", "translator", progress=progress, **options)
    with closing(sqlite3.connect(state)) as connection, connection:
        former = f"{source}\0parquet:new"  # whose key was the URI as given
        key = hashlib.blake2b(former.encode(), digest_size=16).hexdigest()
        changed = connection.execute("UPDATE jobs SET key = ?", (key,))
        assert changed.rowcount == 1
    assert migrate(source, "parquet:new", "translator", **options).continued_after == 10


def test_a_state_file_on_a_full_disk_is_one_clear_error(folder: Path) -> None:
    with small_disk(folder, "100k") as disk:
        source, target = make_source("faiss", folder, 300), place("faiss", folder, "new")
        state, filled = disk / "state.sqlite", False
        options = {"state": state, "batch_size": 10, "checkpoint_seconds": 0.0}

        def fill(_: int) -> None:
            nonlocal filled
            if not filled:
                filled = True
                fill_up(disk / "filler")

        with pytest.raises(WriteError, match="state file"):
            migrate(source, target, folder / "translator", progress=fill, **options)
        assert not (folder / "new.faiss").exists()
        command = start(source, target, folder / "translator", state, 10)
        out, err = command.communicate()
        assert command.returncode == 9, out + err
        assert "Traceback" not in err
        assert "state file" in json.loads(out)["error"]["message"]
        (disk / "filler").unlink()
        result = migrate(source, target, folder / "translator", **options)
        assert result.continued_after > 0
        assert result.written == 300


def test_a_transaction_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    with closing(open_state(tmp_path / "state.sqlite")) as connection:
        log = RunLog(connection)

        def fail() -> None:
            with transaction(connection) as begun:
                begun.execute("INSERT INTO runs (command, begun_at) VALUES ('x', 'y')")
                begun.execute("no SQL")

        with pytest.raises(WriteError, match=r"state\.sqlite cannot be written"):
            fail()
        assert log.latest(5) == []
