"""A target is kept in step by one pass after another, until somebody has to see to it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.timed_points import Job, N, make

from vecmigrate import open_source
from vecmigrate.connector.addresses import followed_uri
from vecmigrate.errors import (
    ExitCode,
    InputError,
    MismatchError,
    TerminatedError,
    UnreachableError,
    WriteError,
)
from vecmigrate.state.file import job_lock, open_records
from vecmigrate.state.ledger import ledger_key
from vecmigrate.state.runs import RunLog
from vecmigrate.sync import SyncResult, sync
from vecmigrate.sync.watch import LONGEST_PAUSE, WatchWarning, watch

PATIENCE = 120.0


def waits(*between: Callable[[], Any]) -> tuple[list[float], Callable[[float], bool]]:
    """Return what notes how long is waited, does one thing in each wait, and then asks to end."""
    left, pauses = list(between), []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if not left:
            return True
        left.pop(0)()
        return False

    return pauses, wait


def told(health: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(health.read_text())
    return found


def test_passes_bring_what_changed_between_them(tmp_path: Path) -> None:
    job, health = make(tmp_path), tmp_path / "health.json"
    passed: list[SyncResult] = []
    seen: list[dict[str, Any]] = []

    def unlocked() -> None:
        """Nothing is locked between two passes."""
        seen.append(told(health))
        key = ledger_key(followed_uri(job.target))
        with job_lock(job.state.parent / "locks", key, "the test"):
            job.put([3, 4], job.now + len(seen))

    pauses, wait = waits(unlocked, unlocked)
    with pytest.raises(TerminatedError):
        watch(job.sync, 30, wait, health=health, told=passed.append)
    assert [result.changed for result in passed] == [0, 2, 2]
    assert pauses == [30, 30, 30]
    assert [(one["state"], one["points_behind"]) for one in seen] == [
        ("waiting", 0),
        ("waiting", 2),
    ]
    last = told(health)
    assert (last["state"], last["passes"], last["failures"], last["last_error"]) == (
        "ended", 3, 0, None,
    )  # fmt: skip
    assert seen[0]["last_success_timestamp"] < last["last_success_timestamp"] <= time.time()
    job.check()


def test_a_server_that_does_not_answer_is_waited_for_longer_each_time(tmp_path: Path) -> None:
    job, health = make(tmp_path), tmp_path / "health.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"qdrant://127.0.0.1:{free.getsockname()[1]}/old?grpc=false&retries=0"
        pauses, wait = waits(*[lambda: None] * 6)
        with pytest.raises(TerminatedError), pytest.warns(WatchWarning):
            watch(
                lambda: sync(gone, job.target, job.translator, job.state), 10, wait, health=health
            )
    assert pauses == [10, 20, 40, 80, 160, LONGEST_PAUSE, LONGEST_PAUSE]
    found = told(health)
    assert (found["failures"], found["last_success"]) == (7, None)
    assert found["last_error"]["exit_code"] == UnreachableError.exit_code


def test_another_run_at_work_is_waited_for(tmp_path: Path) -> None:
    job, passed = make(tmp_path), []
    key = ledger_key(followed_uri(job.target))
    held = job_lock(job.state.parent / "locks", key, "the test")
    held.__enter__()
    _, wait = waits(lambda: held.__exit__(None, None, None))
    with pytest.raises(TerminatedError), pytest.warns(WatchWarning):
        watch(job.sync, 1, wait, told=passed.append)
    assert len(passed) == 1


def test_what_a_person_has_to_see_to_ends_it(tmp_path: Path) -> None:
    job, health = make(tmp_path), tmp_path / "health.json"

    def intrude() -> None:
        with open_source(job.target) as target:
            stranger = target.fetch([3])
        with job.editing(job.target) as updater:
            updater.upsert(type(stranger)(np.array([9999]), stranger.vectors, [{}]))

    _, wait = waits(intrude)
    with pytest.raises(MismatchError, match="9999"):
        watch(job.sync, 1, wait, health=health)
    found = told(health)
    assert (found["state"], found["failures"]) == ("ended", 1)
    assert found["last_error"]["exit_code"] == ExitCode.MISMATCH


def test_a_source_that_goes_away_for_a_while_was_not_named_wrong(tmp_path: Path) -> None:
    job, away = make(tmp_path), tmp_path / "away.parquet"
    old = Path(job.source.partition(":")[2])
    passed: list[SyncResult] = []
    _, wait = waits(lambda: old.rename(away), lambda: away.rename(old))
    with pytest.raises(TerminatedError), pytest.warns(WatchWarning):
        watch(job.sync, 1, wait, told=passed.append)
    assert len(passed) == 2
    old.unlink()
    with pytest.raises(InputError):
        watch(job.sync, 1, wait)


def test_a_health_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    job = make(tmp_path)
    _, wait = waits()
    with pytest.raises(WriteError):
        watch(job.sync, 1, wait, health=tmp_path / "none" / "health.json")


def command(job: Job, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "vecmigrate", "sync", job.source, job.target,
        "--translator", str(job.translator), "--state", str(job.state), *more,
    ]  # fmt: skip


def until(true: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until something holds, while the child runs."""
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)],
)
def test_the_command_goes_on_until_it_is_asked_to_end(
    number: signal.Signals, code: ExitCode, tmp_path: Path
) -> None:
    job, health = make(tmp_path), tmp_path / "health.json"
    job.sync()
    more = ["--watch", "0.2s", "--health", str(health), "--changed-by", "at"]
    metrics = ["--metrics-file", str(tmp_path / "figures.prom")]
    with subprocess.Popen(
        command(job, *more, *metrics), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            until(lambda: health.exists() and told(health)["passes"] >= 3, child)
            job.put([3, 4, N], job.now + 5)

            def arrived() -> bool:
                with open_source(job.target) as target:
                    return target.describe().count == N + 1

            until(arrived, child)
            passes = told(health)["passes"]
            until(lambda: told(health)["passes"] > passes + 1, child)
            child.send_signal(number)
            out, _ = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
    assert child.returncode == code
    found = told(health)
    assert (found["state"], found["failures"], found["points_behind"]) == ("ended", 0, 0)
    # Of a pass that found nothing there is no line and no record.
    assert out.count("arrived") == 1
    assert "vecmigrate_run_last_success_timestamp_seconds" in Path(metrics[1]).read_text()
    with open_records(job.state) as records:
        runs = [run for run in RunLog(records).latest(50) if run.exit_code == ExitCode.OK]
    assert [run.counts for run in runs if run.command == "sync"] == [
        {"arrived": 1, "changed": 2, "vanished": 0, "reembedded": 0, "left_alone": 0, "skipped": 0}
    ]
    job.check()


@pytest.mark.parametrize(
    "more",
    [["--health", "h.json"], ["--watch", "1s", "--dry-run"], ["--watch", "soon"], ["--watch", "0"]],
)
def test_what_does_not_go_together_is_refused(more: list[str], tmp_path: Path) -> None:
    job = Job(tmp_path, "parquet", time.time())
    done = subprocess.run(command(job, *more), capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: ")
