"""History, verifications and logs do not name a point that was forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.dry_run_corpus import make_dry_run_corpus
from support.forgetting import GONE, Moved, N, editing, files_with, ids_of, make
from support.job_files import call, done_now, write_job
from typer.testing import CliRunner

from vecmigrate.anchors import load_anchors
from vecmigrate.cli import app
from vecmigrate.connector import VectorBatch, id_array
from vecmigrate.errors import UsageError
from vecmigrate.forget import forget
from vecmigrate.forget.ids import parse_id, read_ids
from vecmigrate.forget.logs import blank_mentions
from vecmigrate.forget.mentions import Mentions
from vecmigrate.state import STATE_VARIABLE
from vecmigrate.state.file import open_records
from vecmigrate.state.runs import RunLog
from vecmigrate.sync import sync
from vecmigrate.verification import VerifyOptions, verify
from vecmigrate.verification.records import VerificationLog


@pytest.fixture
def moved(tmp_path: Path) -> Moved:
    made = make(tmp_path, f"faiss:{tmp_path}/new.faiss")
    made.migrate()
    return made


def command(moved: Moved, *arguments: object, code: int = 0) -> Any:
    words = ["forget", *map(str, arguments), "--in", str(moved.folder),
             "--state", str(moved.state)]  # fmt: skip
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_refusal_is_logged_and_then_forgotten_too(form: str, moved: Moved) -> None:
    log = moved.folder / "vecmigrate.log"
    told = ("--log-format", form, "--log-file", log)
    refused = command(moved, *GONE, *told, code=5)
    assert str(GONE[0]) in refused.output
    names = [f": {GONE[0]}, {GONE[1]}".encode()]
    assert files_with(moved.folder, *names) == ["state/state.sqlite", log.name]
    before = log.read_bytes()
    moved.delete()
    # What begins with the next run is appended.
    receipt = json.loads(command(moved, *GONE, "--json").stdout)
    assert files_with(moved.folder, *names) == []
    assert {each["what"] for each in receipt["removed"]} >= {"lines of a log",
                                                             "records that named one"}  # fmt: skip
    after = log.read_bytes()
    assert len(after) == len(before)
    if form == "json":
        assert all(json.loads(line)["timestamp"] for line in after.splitlines())
    with open_records(moved.state) as records:
        run, first = RunLog(records).latest(2)
    assert (run.command, run.exit_code, run.counts) == ("forget", 0, {"forgotten": 2})
    assert first.exit_code == 5
    assert names[0].decode() not in str(first.message)


def test_a_verification_s_ids_go(moved: Moved) -> None:
    moved.delete(GONE[0])
    with editing(moved.source) as source:
        at = [5]
        fields = [{"text": "another", "n": 5}]
        source.upsert(VectorBatch(id_array(at), moved.old[at], fields))
    asked = VerifyOptions(full=True, keep_anchors=moved.anchors)
    with open_records(moved.state) as records:
        found = verify(moved.source, moved.target, moved.translator, asked)
        assert any(GONE[0] in check.figures.get("extra_ids", []) for check in found.checks)
        number = VerificationLog(records).add(moved.target, found)
    moved.forget(GONE[0])
    with open_records(moved.state) as records:
        stored = VerificationLog(records).get(number)
    assert stored is not None
    left = {check.name: check for check in stored.verification.checks}
    assert left["ids"].figures["extra_ids"] == []
    assert str(GONE[0]) not in left["ids"].summary
    assert left["payloads"].figures["differing_ids"] == [5]


def test_the_command_prints_a_receipt(moved: Moved) -> None:
    moved.delete()
    (moved.folder / "ids.txt").write_text(f"{GONE[0]}\n\n{N + 1}\n")
    out = command(moved, GONE[1], "--ids-file", moved.folder / "ids.txt").stdout
    assert f"Forgotten: {GONE[1]}, {GONE[0]}, {N + 1}" in out
    assert f"In none of the places: {N + 1}" in out
    assert str(moved.translator) in out  # not reached
    assert out.splitlines()[-1].startswith("Next: ")
    assert not ids_of(moved.target) & set(GONE)
    assert command(moved, *GONE, "--quiet").output == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["--ids-file", "{f}/none"], 3), (["1", "--in", "{f}/none"], 3),
     (["1", "--target", "faiss:{f}/none.faiss"], 3), (["1", "--target", "faiss:{f}/old.faiss"], 5)],
)  # fmt: skip
def test_what_cannot_be_done_is_said(arguments: list[str], code: int, moved: Moved) -> None:
    result = command(moved, *(each.format(f=moved.folder) for each in arguments), code=code)
    assert result.stderr.startswith("error: ")


def test_a_job_s_files_are_found_from_anywhere(
    moved: Moved, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    moved.delete()
    moved.forget(folders=[])
    assert GONE[0] not in load_anchors(moved.anchors).ids


def test_ids_are_read(tmp_path: Path) -> None:
    assert [parse_id(each) for each in ("17", '"17"', "doc-a", '"un', "017")] == [
        17, "17", "doc-a", '"un', 17
    ]  # fmt: skip
    lines = tmp_path / "ids.txt"
    lines.write_text('17\nan id of words\n"18"\n')
    assert read_ids(["17"], lines) == (17, "an id of words", "18")
    lines.write_text('[17, "17", "x"]')
    assert read_ids([], lines) == (17, "17", "x")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("old.faiss lacks the ids 17, 42", True),
        ("point 17 was refused: too odd", True),
        ("id 17", True),
        ("the text of id doc-a.", True),
        ("no text for ids 3, two words", True),
        ("17 points would be deleted", False),
        ("index of 1,017 vectors, 17.5 s, 170, v17", False),
        ("articles-17 and doc-ab", False),
    ],
)
def test_what_names_a_point(text: str, named: bool) -> None:
    assert Mentions([17, "doc-a", "two words"]).within(text) is named


def test_a_log_that_is_written_to_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    stamp = "2026-11-30T12:00:00.000000Z"
    path.write_text(f"{stamp} INFO  begun\n{stamp} ERROR id 17 is odd\n")
    with path.open("a") as writer:
        assert blank_mentions(path, Mentions([17])) == 1
        writer.write(f"{stamp} INFO  ended\n")
    first, second, third = path.read_text().splitlines()
    assert (first, third) == (f"{stamp} INFO  begun", f"{stamp} INFO  ended")
    assert second == f"{stamp} ERROR {'-' * len('id 17 is odd')}"


def test_the_steps_of_a_job_stay_done(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    make_dry_run_corpus(tmp_path)
    job = write_job(tmp_path, more="[migrate]\nkeep_anchors = true")
    assert done_now(job) == ["dry-run", "migrate", "verify"]
    anchors = tmp_path / "dry-run" / "anchors.parquet"
    gone = int(load_anchors(anchors).ids[0])
    state = tmp_path / ".vecmigrate" / "state.sqlite"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(UsageError):
        # The job names its collections from its own folder.
        forget([gone], state, still_at_source=True)
    monkeypatch.chdir(tmp_path)
    receipt = forget([gone], state, still_at_source=True, folders=[job])
    assert str(anchors) in {each.place for each in receipt.removed}
    steps = json.loads(call("plan", job, "--json", "--no-measure").stdout)["steps"]
    assert {each["step"]: each["look"]["standing"] for each in steps}["dry-run"] == "done"
    done = sync(
        f"faiss:{tmp_path}/old.faiss", f"faiss:{tmp_path}/new.faiss",
        tmp_path / "dry-run" / "translator.safetensors", state, keep_anchors=anchors,
    )  # fmt: skip
    assert (done.arrived, done.changed, done.vanished) == (1, 0, 0)
