"""``vecmigrate history``: runs that ended well, badly, by a kill, or not yet."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.crash import contents, make_source, make_translator, place, start
from support.forked import Forked
from typer.testing import CliRunner

from vecmigrate.cli import app
from vecmigrate.connector import Process
from vecmigrate.errors import ExitCode
from vecmigrate.state import open_state
from vecmigrate.state.runs import KILLED, RUNNING, UNKNOWN, RunLog

FIRST_VERSION = """
PRAGMA application_id = 1986358633;
PRAGMA user_version = 1;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    source TEXT,
    target TEXT,
    begun_at TEXT NOT NULL,
    ended_at TEXT,
    exit_code INTEGER,
    message TEXT,
    counts TEXT NOT NULL DEFAULT '{}'
);
INSERT INTO runs VALUES (1, 'migrate', 'faiss:a', 'faiss:b', '2026-01-01T00:00:00+00:00',
    '2026-01-01T00:01:30+00:00', 3, 'a is not there. Look for it.', '{}');
INSERT INTO runs (id, command, source, target, begun_at) VALUES
    (2, 'migrate', 'faiss:a', 'faiss:b', '2026-01-02T00:00:00+00:00');
"""
FIRST_BEGIN = "INSERT INTO runs (command, source, target, begun_at) VALUES (?, ?, ?, ?)"


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def history(*arguments: object) -> Any:
    out, err = run("history", *arguments, "--json")
    assert err == ""
    return json.loads(out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VECMIGRATE_STATE", raising=False)
    make_translator(tmp_path)
    return tmp_path


@contextmanager
def at_work(folder: Path) -> Iterator[tuple[Forked, Path]]:
    """A long migration that has begun to write, and its state file."""
    source, target = make_source("faiss", folder, 20_000), place("faiss", folder, "new")
    state = folder / "state.sqlite"
    process = start(source, target, folder / "translator", state, 20)
    try:
        while not list(folder.glob(".new.faiss*/vectors.f32")):
            assert process.poll() is None
            time.sleep(0.01)
        yield process, state
    finally:
        process.kill()
        process.communicate()


def test_runs_are_listed_the_latest_first(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    migrating = ["migrate", source, "faiss:new.faiss", "--translator"]
    run(*migrating, "translator", "-q")
    run(*migrating, "none", code=ExitCode.BAD_INPUT)
    failed, done = history()["runs"]
    assert (done["number"], done["command"], done["source"], done["target"]) == (
        1, "migrate", source, "faiss:new.faiss"
    )  # fmt: skip
    assert (done["outcome"], done["exit_code"], done["counts"]["written"]) == ("OK", 0, 60)
    assert (done["message"], done["remedy"]) == (None, None)
    assert 0 < done["seconds"] < 60
    assert done["process"]["pid"] == os.getpid()
    assert (failed["outcome"], failed["message"]) == ("BAD_INPUT", "none does not exist")
    shown, _ = run("history")
    header, first, second, last = shown.splitlines()
    assert header.split()[:2] == ["run", "began"]
    assert "BAD_INPUT" in first
    assert f"{source} → faiss:new.faiss" in second
    assert last == "Next: vecmigrate history 2 shows one whole"
    assert [r["number"] for r in history("--failed")["runs"]] == [2]
    assert [r["number"] for r in history("--limit", 1)["runs"]] == [2]


def test_one_run_is_shown_whole(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    run("migrate", source, "faiss:new.faiss", "--translator", "none", code=ExitCode.BAD_INPUT)
    shown, _ = run("history", 1)
    facts = dict(line.split(maxsplit=1) for line in shown.splitlines()[:-1])
    assert (facts["command"], facts["source"], facts["outcome"]) == (
        "migrate", source, "BAD_INPUT (exit code 3)"
    )  # fmt: skip
    assert facts["error"] == "none does not exist"
    assert shown.splitlines()[-1] == "Next: Make it with: vecmigrate fit."
    assert history(1)["number"] == 1
    _, err = run("history", 7, code=ExitCode.BAD_INPUT)
    assert err.startswith("error: there is no run 7 in ")
    assert err.count("\n") == 1


def test_a_run_is_running_then_killed(folder: Path) -> None:
    with at_work(folder) as (process, state):
        [there] = history("--state", state)["runs"]
        assert (there["outcome"], there["process"]["pid"]) == (RUNNING, process.pid)
        assert history("--state", state, "--failed")["runs"] == []
        assert run("history", 1, "--state", state)[0].splitlines()[-1].startswith("Next: let it")
        process.kill()
        # Not waited for yet: a zombie does not run either.
        while (seen := history(1, "--state", state))["outcome"] == RUNNING:
            time.sleep(0.01)
    assert (seen["outcome"], seen["exit_code"], seen["ended_at"]) == (KILLED, None, None)
    assert [r["number"] for r in history("--state", state, "--failed")["runs"]] == [1]
    shown, _ = run("history", 1, "--state", state)
    assert "run the same command again" in shown.splitlines()[-1]


def test_sigterm_is_an_outcome_of_its_own(folder: Path) -> None:
    with at_work(folder) as (process, state):
        process.terminate()
        process.communicate()
        assert process.returncode == ExitCode.TERMINATED
    [seen] = history("--state", state)["runs"]
    assert (seen["outcome"], seen["exit_code"]) == ("TERMINATED", 143)
    assert seen["remedy"] == "Run the same command to continue."
    assert 0 < seen["counts"]["written"] < 20_000
    assert f"stopped after {seen['counts']['written']:,} points" in seen["message"]


def test_sigterm_stops_a_verification_too(folder: Path) -> None:
    source = make_source("faiss", folder, 100)
    run("migrate", source, "faiss:new.faiss", "--translator", "translator", "-q")
    # Nobody writes the queries that it waits for.
    os.mkfifo("queries.npy")
    command = ["verify", source, "faiss:new.faiss", "--translator", "translator"]
    process = Forked("-m", "vecmigrate", *command, "--queries", "queries.npy")
    while len(history()["runs"]) < 2:
        assert process.poll() is None
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == ExitCode.TERMINATED
    assert err == "error: stopped by SIGTERM. Run the same command again.\n"
    assert history(2)["outcome"] == "TERMINATED"


def test_a_process_is_not_taken_for_a_later_one_or_another_machine_s() -> None:
    mine = Process.this()
    assert mine.is_there() is True
    assert mine.model_copy(update={"started": "an earlier one"}).is_there() is False
    assert mine.model_copy(update={"host": "elsewhere"}).is_there() is None
    ended = subprocess.Popen(["true"])
    ended.wait()
    without = Process(pid=ended.pid, host=mine.host, started=None)
    assert without.is_there() is False
    assert without.model_copy(update={"pid": mine.pid}).is_there() is True


def test_a_state_file_of_the_first_version_is_read_and_continued(folder: Path) -> None:
    state = folder / "old.sqlite"
    with closing(sqlite3.connect(state)) as connection:
        connection.executescript(FIRST_VERSION)
    unfinished, failed = history("--state", state)["runs"]
    assert (failed["outcome"], failed["seconds"], failed["remedy"]) == ("BAD_INPUT", 90, None)
    assert (unfinished["outcome"], unfinished["process"]) == (UNKNOWN, None)
    source = make_source("faiss", folder, 60)
    run("migrate", source, "faiss:n.faiss", "--translator", "translator", "--state", state, "-q")
    assert [r["outcome"] for r in history("--state", state)["runs"]] == [
        "OK", UNKNOWN, "BAD_INPUT"
    ]  # fmt: skip
    with closing(open_state(state)) as connection, connection:
        # What the first version does to a state file of this one.
        connection.execute(FIRST_BEGIN, ("migrate", "faiss:a", "faiss:b", "2026-01-03T00:00:00Z"))
    assert history(4, "--state", state)["outcome"] == UNKNOWN


def test_runs_are_found_by_their_target_from_any_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source("faiss", folder, 60)
    for name in ("one", "two"):
        run("migrate", source, f"faiss:{name}.faiss", "--translator", "translator", "-q")
    assert [r["number"] for r in history("--target", "faiss:one.faiss")["runs"]] == [1]
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    there = ("--state", "../.vecmigrate/state.sqlite", "--target")
    assert [r["number"] for r in history(*there, "faiss:../two.faiss")["runs"]] == [2]
    assert history(*there, "faiss:two.faiss")["runs"][0]["number"] == 2
    assert history(*there, "no URI")["runs"] == []
    shown, _ = run("history", *there, "faiss:three.faiss")
    assert shown.startswith("No such runs")


def test_nothing_is_made_where_nothing_was_run(folder: Path) -> None:
    _, err = run("history", code=ExitCode.BAD_INPUT)
    assert err.startswith("error: there is no state file .vecmigrate/state.sqlite")
    assert not (folder / ".vecmigrate").exists()


def test_all_that_changes_or_checks_something_is_recorded(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    by = ("--translator", "translator")
    run("migrate", source, "faiss:new.faiss", *by, "-q")
    run("verify", source, "faiss:new.faiss", *by, "-q")
    run("sync", source, "faiss:new.faiss", *by, "--dry-run", "-q")
    run("status", "faiss:new.faiss", "-q")
    run("cutover", source, "--to", "faiss:new.faiss", "--dry-run", "-q")
    run("cutover", source, "--to", "faiss:new.faiss", "-q")
    run("drop-source", source)
    run("rollback", source, "-q")
    seen = [(r["command"], r["target"], r["outcome"]) for r in history()["runs"]]
    assert seen == [
        ("rollback", source, "OK"),
        ("cutover", "faiss:new.faiss", "OK"),
        ("verify", "faiss:new.faiss", "OK"),
        ("migrate", "faiss:new.faiss", "OK"),
    ]
    assert history(2)["counts"] == {"compared": 60, "wrong": 0}


def test_a_failed_verification_is_told_with_its_checks(folder: Path) -> None:
    source = make_source("faiss", folder, 60)
    run("migrate", source, "faiss:new.faiss", "--translator", "translator", "-q")
    (folder / "more").mkdir()
    more = make_source("faiss", folder / "more", 61)
    run("verify", more, "faiss:new.faiss", "--translator", "translator",
        code=ExitCode.VERIFICATION)  # fmt: skip
    seen = history(2)
    assert (seen["outcome"], seen["exit_code"]) == ("VERIFICATION", 6)
    assert seen["message"].startswith("faiss:new.faiss failed: count, ids")
    assert len(contents("faiss:new.faiss")) == 60


def test_a_secret_is_not_kept(folder: Path) -> None:
    secret = "very-secret-0815"
    run("migrate", f"qdrant://user:{secret}@host/x?api_key={secret}", f"qdrant://{secret}@host/y",
        "--translator", "translator", code=ExitCode.USAGE)  # fmt: skip
    for file in (folder / ".vecmigrate").iterdir():
        if file.is_file():
            assert secret.encode() not in file.read_bytes()
    assert history(1)["source"] == "qdrant://***@host/x?api_key=***"
    assert history(1)["target"] == "qdrant://***@host/y"


def test_two_that_open_a_first_version_at_once_both_can(tmp_path: Path) -> None:
    state = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(state)) as connection:
        connection.executescript(FIRST_VERSION)
    code = (
        "import sys; from vecmigrate.state import open_state; "
        "from vecmigrate.state.runs import RunLog; "
        "RunLog(open_state(sys.argv[1])).begin('migrate', 'a', 'b')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, state]) for _ in range(3)]
    assert [process.wait() for process in both] == [0, 0, 0]
    with closing(open_state(state)) as connection:
        assert len(RunLog(connection).latest(10)) == 5
