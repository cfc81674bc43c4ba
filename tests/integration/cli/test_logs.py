"""Logs: what is in them, where they go, and what never is."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.crash import make_source, make_translator
from support.qdrant.loopback.server import Engine, RestServer
from typer.testing import CliRunner

import vecmigrate
from vecmigrate.cli import app
from vecmigrate.errors import ExitCode
from vecmigrate.telemetry.redaction import redacted

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "logs-and-metrics.md").read_text()
SECRET = "sk-very-secret/0815+x"
OPTIONS = ("--log-format", "--log-file", "--log-level", "--metrics-file", "--wait")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A migration's arguments, in a directory with all that it needs."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("VECMIGRATE_")]:
        monkeypatch.delenv(name)
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 60)
    return ["migrate", source, "faiss:new.faiss", "--translator", "translator"]


def test_a_run_as_json(job: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", TRACE)
    run(*job, "--log-format", "json", "--log-file", "log", "--batch-size", 20,
        "--checkpoint-seconds", 0, "-q")  # fmt: skip
    told = records(Path("log"))
    events = [record["event_name"].removeprefix("vecmigrate.") for record in told]
    assert events == [
        "run.started", *["checkpoint"] * 4, "step.ended", "checkpoint", "step.ended", "step.ended",
        "run.ended",
    ]  # fmt: skip
    times = [datetime.fromisoformat(record["timestamp"]) for record in told]
    assert times == sorted(times)
    assert all(record["timestamp"].endswith("Z") for record in told)
    for record in told:
        assert (record["severity_text"], record["severity_number"]) == ("INFO", 9)
        assert record["resource"]["service.name"] == "vecmigrate"
        assert record["resource"]["service.version"] == "0.1.0"
        assert record["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert (record["span_id"], record["trace_flags"]) == ("b7ad6b7169203331", 1)
        attributes = record["attributes"]
        assert attributes["vecmigrate.run_id"] == 1
        assert attributes["vecmigrate.command"] == "migrate"
        assert attributes["vecmigrate.source"] == job[1]
        assert attributes["vecmigrate.target"] == job[2]
    reached = [
        r["attributes"]["vecmigrate.points"] for r in told if "checkpoint" in r["event_name"]
    ]
    assert reached == [0, 20, 40, 60, 60]
    steps = [r["attributes"] for r in told if "step" in r["event_name"]]
    assert [step["vecmigrate.step"] for step in steps] == ["write", "publish", "verify"]
    ended = told[-1]["attributes"]
    assert (ended["exit.code"], ended["vecmigrate.points.written"]) == (0, 60)
    assert ended["vecmigrate.seconds"] >= sum(step["vecmigrate.seconds"] for step in steps) - 0.01


def test_a_failure_is_an_error_once(job: list[str]) -> None:
    out, err = run(*job[:-1], "none", "--log-format", "json", "--log-file", "log",
                   code=ExitCode.BAD_INPUT)  # fmt: skip
    assert (out, err.count("\n")) == ("", 1)
    started, error, ended = records(Path("log"))
    assert started["event_name"] == "vecmigrate.run.started"
    assert (error["event_name"], error["severity_number"]) == ("vecmigrate.error", 17)
    assert err == f"error: {error['body']}\n"
    assert error["attributes"]["error.type"] == "InputError"
    assert error["attributes"]["exit.code"] == 3
    assert error["attributes"]["vecmigrate.run_id"] == 1
    assert "exception.stacktrace" not in error["attributes"]
    assert (ended["severity_text"], ended["attributes"]["exit.code"]) == ("ERROR", 3)


@pytest.mark.parametrize("path", [".", "none/log"])
def test_a_log_that_cannot_be_opened_is_told_once(job: list[str], path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vecmigrate", "inspect", job[1], "--log-file", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.WRITE_FAILED
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: the log {path} ")


def test_commands_that_are_not_recorded_log_their_errors_too(job: list[str]) -> None:
    run("inspect", "faiss:none.faiss", "--log-file", "log", "--log-format", "json",
        code=ExitCode.BAD_INPUT)  # fmt: skip
    [error] = records(Path("log"))
    assert error["attributes"] == {"error.type": "InputError", "exit.code": 3}


def test_a_bug_is_logged_with_its_traceback(
    job: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("vecmigrate.jobs.steps.migrate.migrate", broken)
    with pytest.raises(RuntimeError):
        run(*job, "--log-format", "json", "--log-file", "log")
    error = records(Path("log"))[1]
    assert error["attributes"]["exit.code"] == 1
    assert "in broken" in error["attributes"]["exception.stacktrace"]


def test_text_is_one_line_for_each_event(job: list[str]) -> None:
    _, err = run(*job, "--log-level", "info", "-q")
    lines = err.splitlines()
    assert len(lines) == 7
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO  \w", line)
    assert lines[0].endswith(
        f"Z INFO  migrate started vecmigrate.run_id=1 vecmigrate.command=migrate "
        f"vecmigrate.source={job[1]} vecmigrate.target=faiss:new.faiss"
    )
    _, err = run("history", "7", "--log-format", "text", code=ExitCode.BAD_INPUT)
    assert "there is no run 7 in .vecmigrate/state.sqlite" in err.splitlines()[0]


def test_nothing_is_logged_unasked(job: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vecmigrate", *job], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert sorted(path.name for path in Path().iterdir()) == [
        ".vecmigrate", "new.faiss", "new.faiss.jsonl", "new.faiss.vecmigrate.json", "old.faiss",
        "old.faiss.jsonl", "old.faiss.vecmigrate.json", "translator",
    ]  # fmt: skip


def test_the_library_adds_no_handlers_and_the_command_leaves_none(job: list[str]) -> None:
    run(*job, "--log-file", "log", "-q")
    code = (
        "import logging, sys, vecmigrate\n"
        "vecmigrate.migrate(*sys.argv[1:])\n"
        "print([n for n, l in logging.root.manager.loggerDict.items()\n"
        "       if n.startswith('vecmigrate') and getattr(l, 'handlers', [])])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, job[1], "faiss:other.faiss", job[4]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")
    for name in ("vecmigrate", "vecmigrate.run"):
        assert logging.getLogger(name).handlers == []
    assert logging.getLogger("vecmigrate").level == logging.NOTSET
    assert logging.getLogger("vecmigrate.run").propagate


def test_a_program_s_own_handlers_get_the_events(job: list[str]) -> None:
    held = io.StringIO()
    logger, handler = logging.getLogger("vecmigrate"), logging.StreamHandler(held)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        vecmigrate.migrate(job[1], job[2], job[4], state="state.sqlite")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert "60 points are durable" in held.getvalue()


def test_options_stand_before_the_command_or_after_it_or_in_the_environment(
    job: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECMIGRATE_LOG_FORMAT", "json")
    monkeypatch.setenv("VECMIGRATE_LOG_FILE", "environment")
    run(*job, "-q")
    assert len(records(Path("environment"))) == 7
    run("--log-file", "before", *job, "-q")
    assert records(Path("before"))
    run("--log-file", "none", "--log-level", "debug", *job, "--log-file", "after", "-q")
    assert records(Path("after"))
    assert not Path("none").exists()
    assert len(records(Path("environment"))) == 7


def test_what_is_below_the_level_is_left_out(job: list[str]) -> None:
    run(*job, "--log-level", "warning", "--log-file", "log", "-q")
    assert Path("log").read_text() == ""
    run(*job[:-1], "none", "--log-level", "error", "--log-file", "log", code=ExitCode.BAD_INPUT)
    assert len(Path("log").read_text().splitlines()) == 2


def test_a_log_is_appended_to(job: list[str]) -> None:
    for _ in range(2):
        run(*job, "--log-format", "json", "--log-file", "log", "-q")
    assert [r["attributes"]["vecmigrate.run_id"] for r in records(Path("log"))][::6] == [1, 1]


def test_warnings_are_logged_though_none_is_shown(job: list[str]) -> None:
    few = np.eye(5, 16, dtype=np.float32)
    np.save("few.npy", few)
    _, err = run("fit", "--source-vectors", "few.npy", "--target-vectors", "few.npy", "--out", "t",
                 "-q", "--log-format", "json", "--log-file", "log")  # fmt: skip
    assert err == ""
    [warned] = records(Path("log"))
    assert (warned["event_name"], warned["severity_text"]) == ("vecmigrate.warning", "WARN")
    assert warned["body"].startswith("5 anchors")
    assert warned["attributes"]["vecmigrate.warning_type"].endswith("Warning")


def test_retries_are_logged_with_their_cause(job: list[str]) -> None:
    engine = Engine()
    with RestServer(engine) as server:
        engine.faults.extend([503, 503])
        target = f"qdrant://127.0.0.1:{server.port}/new?grpc=false"
        run(job[0], job[1], target, *job[3:], "--log-format", "json", "--log-file", "log", "-q")
    told = [r for r in records(Path("log")) if r["event_name"] == "vecmigrate.retry"]
    assert [r["attributes"]["vecmigrate.attempt"] for r in told] == [1, 2]
    for record in told:
        assert "HTTP 503" in record["body"]
        assert record["attributes"]["error.type"] == "UnexpectedResponse"
        assert record["attributes"]["server.address"] == "127.0.0.1"
        assert record["attributes"]["server.port"] == server.port
        assert record["attributes"]["vecmigrate.run_id"] == 1


@pytest.mark.parametrize("format_", ["text", "json"])
def test_secrets_are_nowhere(job: list[str], monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    seen = ["--log-format", format_, "--log-file", "log", "--log-level", "debug",
            "--metrics-file", "metrics.prom"]  # fmt: skip
    with RestServer(Engine(key=SECRET)) as server:
        place_ = f"qdrant://127.0.0.1:{server.port}"
        run(job[0], job[1], f"{place_}/new?grpc=false", *job[3:], *seen, "-q")
        monkeypatch.setenv("QDRANT_API_KEY", "another-one-4711")
        run(job[0], job[1], f"{place_}/more?grpc=false", *job[3:], *seen,
            code=ExitCode.WRITE_FAILED)  # fmt: skip
        for target in (
            f"{place_}/x?api_key={SECRET}", f"{place_}/x?API-Key={SECRET}&grpc=false",
            f"qdrant://me:{SECRET.replace('/', '%2F')}@host/x", f"faiss:{SECRET}.faiss",
        ):  # fmt: skip
            monkeypatch.setenv("QDRANT_API_KEY", SECRET)
            CliRunner().invoke(app, [job[0], job[1], target, *job[3:], *seen])
    kept = [Path("log"), Path("metrics.prom"), *Path(".vecmigrate").glob("*.sqlite*")]
    assert len(kept) >= 3
    for path in kept:
        content = path.read_bytes().decode(errors="replace")
        for secret in (SECRET, SECRET.replace("/", "%2F"), "another-one-4711"):
            assert secret not in content, path
    assert "faiss:***.faiss" in Path("log").read_text()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("qdrant://h:6333/x?api_key=abc&grpc=false", "qdrant://h:6333/x?api_key=***&grpc=false"),
        ("'qdrant://h/x?api%5Fkey=abc' is", "'qdrant://h/x?api%5Fkey=***' is"),
        ("qdrant+https://h/x?api_key_env=MY_KEY", "qdrant+https://h/x?api_key_env=MY_KEY"),
        ("http://me:p@ss@host/v1 answers", "http://***@host/v1 answers"),
        ("faiss:a/b@c.faiss?text=key", "faiss:a/b@c.faiss?text=key"),
        ("Bearer hidden-by-name!", "Bearer ***"),
        ("and odd-name-value", "and odd-name-value"),
        ("and odd-name-value?api_key_env=ODD", "and ***?api_key_env=ODD"),
        ("of /home/someone", "of /home/someone"),
        ("a short x", "a short x"),
    ],
)
def test_what_is_taken_out(text: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hidden-by-name!")
    monkeypatch.setenv("SHORT_KEY", "x")
    monkeypatch.setenv("ODD", "odd-name-value")
    monkeypatch.setenv("PWD", "/home/someone")
    assert redacted(text) == left


@pytest.mark.parametrize(
    "parent",
    ["", "nonsense", TRACE.upper(), TRACE.replace("00-", "ff-", 1), f"{TRACE}-more",
     "00-00000000000000000000000000000000-b7ad6b7169203331-01",
     "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
)  # fmt: skip
def test_no_trace_is_told_where_there_is_none(
    job: list[str], monkeypatch: pytest.MonkeyPatch, parent: str
) -> None:
    monkeypatch.setenv("TRACEPARENT", parent)
    run("history", "--log-format", "json", "--log-file", "log", code=ExitCode.BAD_INPUT)
    assert "trace_id" not in records(Path("log"))[0]


def test_a_log_that_cannot_be_opened_is_one_clear_error(job: list[str]) -> None:
    out, err = run(*job, "--log-file", "none/log", "--json", code=ExitCode.WRITE_FAILED)
    assert err.startswith("error: the log none/log cannot be written")
    assert err.count("\n") == 1
    assert json.loads(out)["error"]["exit_code"] == ExitCode.WRITE_FAILED
    assert not Path("new.faiss").exists()


def test_a_log_on_a_full_disk_costs_a_warning(job: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vecmigrate", *job, "-q", "--log-file", "/dev/full"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.startswith("warning: the log /dev/full cannot be written: ")
    assert done.stderr.count("\n") == 1
    assert Path("new.faiss").exists()


def test_every_command_has_the_options() -> None:
    commands = [command.name for command in app.registered_commands]
    assert len(commands) >= 13
    environment = {"COLUMNS": "200"}
    for command in commands:
        shown = CliRunner().invoke(app, [str(command), "--help"], env=environment).output
        for option in OPTIONS:
            assert option in shown, command
    shown = CliRunner().invoke(app, ["--help"], env=environment).output
    for option in OPTIONS:
        assert option in shown
        assert f"VECMIGRATE_{option[2:].replace('-', '_').upper()}" in shown


def test_the_page_s_tables_name_every_event_and_attribute() -> None:
    dotted = re.compile(
        r"\"((?:vecmigrate|error|exit|exception|server|service|host|process)\.[a-z_.]+)\""
    )
    used = {
        name
        for folder in ("vecmigrate", "connectors")
        for path in (ROOT / folder).rglob("*.py")
        for name in dotted.findall(path.read_text())
    }
    other_names = {
        "vecmigrate.run", "vecmigrate.qdrant", "vecmigrate.connectors", "vecmigrate.encoders",
        "vecmigrate.translators", "vecmigrate.toml", "vecmigrate.json",
    }  # fmt: skip
    named = {
        name
        for line in PAGE.splitlines() if line.startswith("|")
        for name in re.findall(r"`([a-z]+\.[a-z_.]+)`", line)
    }  # fmt: skip
    assert len(used) > 15
    assert used - other_names <= named
    assert {name for name in named if name.startswith("vecmigrate.")} - used == {
        "vecmigrate.points.written"
    }
