"""The command line as a user meets it: the whole job, machine-readable output, refusals."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpus import NEW_DIM, Corpus, N
from support.qdrant.edge_places import STORES, copied
from typer.testing import CliRunner

from vecmigrate import load_translator
from vecmigrate.cli import app
from vecmigrate.errors import ExitCode

COMMANDS = ["inspect", "anchors", "fit", "translate", "migrate", "evaluate"]
PRODUCTION = ["verify", "cutover", "rollback", "drop-source"]
VECMIGRATE = [sys.executable, "-m", "vecmigrate"]


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def run_json(*arguments: object) -> dict[str, Any]:
    out, err = run(*arguments, "--json")
    assert err == ""
    parsed: dict[str, Any] = json.loads(out)
    return parsed


@pytest.fixture
def job(corpus: Corpus) -> Corpus:
    """A corpus with anchors, translator, target, reference and queries beside it."""
    folder = corpus.folder
    run("anchors", corpus.source, "--encoder", corpus.encoder, "--size", 100,
        "--source-encoder", "old-model", "--out", folder / "anchors.parquet", "-q")  # fmt: skip
    run("fit", "--anchors", folder / "anchors.parquet", "--out", folder / "t.safetensors", "-q")
    np.save(folder / "old-queries.npy", corpus.old[:40])
    np.save(folder / "new-queries.npy", corpus.new[:40])
    lines = (json.dumps({"id": i, "relevant": [i]}) + "\n" for i in range(40))
    (folder / "queries.jsonl").write_text("".join(lines))
    return corpus


def evaluate_arguments(folder: Path, name: str = "new-model") -> list[object]:
    return [
        "evaluate", "--source", f"faiss:{folder}/old.faiss",
        "--target", f"faiss:{folder}/new.faiss", "--queries", folder / "queries.jsonl",
        "--source-encoder", f"vectors:{folder}/old-queries.npy?name=old-model",
        "--target-encoder", f"vectors:{folder}/new-queries.npy?name={name}",
    ]  # fmt: skip


@pytest.mark.parametrize("store", STORES)
def test_the_whole_job_step_by_step(job: Corpus, store: str) -> None:
    folder = job.folder
    source = copied(job.source, store, folder)
    inspected = run_json("inspect", source)
    assert inspected["collection"]["text_field"] == "text"
    assert inspected["vectors"]["read"] == N
    migrated = run_json("migrate", source, f"faiss:{folder}/new.faiss",
                        "--translator", folder / "t.safetensors")  # fmt: skip
    assert migrated["written"] == N
    verified = run_json("verify", source, f"faiss:{folder}/new.faiss",
                        "--translator", folder / "t.safetensors")  # fmt: skip
    assert verified["passed"]
    assert migrated["target"]["dimension"] == NEW_DIM
    assert migrated["target"]["provenance"]["encoder"]["name"] == "new-model"
    rows = run_json(*evaluate_arguments(folder), "--k", 1, "--k", 10)["rows"]
    assert [row["role"] for row in rows] == ["source", "target"]
    assert rows[1]["at"]["10"]["labelled_recall"] > 0.9
    shown, _ = run(*evaluate_arguments(folder))
    assert "labelled recall@10" in shown
    assert "Next:" in shown


def test_each_step_names_the_next_one(corpus: Corpus) -> None:
    folder = corpus.folder
    steps: list[list[object]] = [
        ["inspect", corpus.source],
        ["anchors", corpus.source, "--encoder", corpus.encoder, "--size", 50, "--out",
         folder / "a.parquet"],
        ["fit", "--anchors", folder / "a.parquet", "--out", folder / "t.safetensors"],
        ["migrate", corpus.source, f"qdrant:{folder}/q/new", "--translator",
         folder / "t.safetensors"],
        ["verify", corpus.source, f"qdrant:{folder}/q/new", "--translator",
         folder / "t.safetensors"],
    ]  # fmt: skip
    order = ["anchors", "fit", "migrate", "verify", "cutover"]
    for step, following in zip(steps, order, strict=True):
        out, _ = run(*step)
        assert out.splitlines()[-1].startswith(f"Next: vecmigrate {following} ")
        if following == "verify":
            assert shlex.split(out.splitlines()[-1].removeprefix("Next: vecmigrate ")) == [
                str(a) for a in steps[4]
            ]


def test_fit_and_translate_plain_arrays(corpus: Corpus) -> None:
    folder = corpus.folder
    np.save(folder / "old.npy", corpus.old)
    fitted = run_json("fit", "--source-vectors", folder / "old.npy", "--target-vectors",
                      folder / "new.npy", "--out", folder / "t.safetensors",
                      "--method", "procrustes")  # fmt: skip
    assert (fitted["method"], fitted["anchors"]) == ("procrustes", N)
    translated = run_json(
        "translate", folder / "t.safetensors", folder / "old.npy", folder / "out.npy"
    )
    assert (translated["count"], translated["dimension"]) == (N, NEW_DIM)
    vectors = np.load(folder / "out.npy")
    assert vectors.dtype == np.float32
    assert (vectors * corpus.new).sum(axis=1).mean() > 0.95


def test_variances_are_written_beside_the_vectors(job: Corpus) -> None:
    folder = job.folder
    np.save(folder / "old.npy", job.old)
    for method in ("kernel-ridge", "procrustes"):
        run("fit", "--anchors", folder / "anchors.parquet", "--out", folder / method,
            "--method", method, "-q")  # fmt: skip
    arguments = [folder / "old.npy", folder / "out.npy", "--variance", folder / "variance.npy"]
    _, err = run("translate", folder / "procrustes", *arguments, code=ExitCode.MISMATCH)
    assert "tells no variance" in err
    assert not (folder / "out.npy").exists()
    run("translate", folder / "kernel-ridge", *arguments)
    variance = np.load(folder / "variance.npy")
    assert variance.shape == (N,)
    assert (variance >= 0).all()
    assert variance.std() > 0


def test_a_bridge_maps_new_queries_into_the_old_collection(job: Corpus) -> None:
    folder = job.folder
    fitted = run_json("fit", "--anchors", folder / "anchors.parquet", "--out", folder / "bridge",
                      "--direction", "query")  # fmt: skip
    assert (fitted["direction"], fitted["source_dimension"]) == ("query", NEW_DIM)
    assert fitted["source_encoder"]["name"] == "new-model"
    queries = load_translator(folder / "bridge").transform(job.new)
    assert (queries * job.old).sum(axis=1).mean() > 0.9
    _, err = run("migrate", job.source, f"faiss:{folder}/new.faiss", "--translator",
                 folder / "bridge", code=ExitCode.MISMATCH)  # fmt: skip
    assert "dimensions" in err or "maps queries" in err


def test_auto_prints_the_table_it_chose_from(job: Corpus) -> None:
    out, _ = run("fit", "--anchors", job.folder / "anchors.parquet", "--out", job.folder / "u")
    assert "recall@10 on held-out anchors" in out
    fitted = run_json("fit", "--anchors", job.folder / "anchors.parquet", "--out", job.folder / "v")
    scores = [candidate["held_out_recall"] for candidate in fitted["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) > 1


def test_quiet_prints_nothing(corpus: Corpus) -> None:
    assert run("inspect", corpus.source, "--quiet") == ("", "")


def test_no_progress_and_no_colour_when_not_on_a_terminal(corpus: Corpus) -> None:
    result = subprocess.run(
        [*VECMIGRATE, "inspect", corpus.source], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert "\x1b" not in result.stdout


def test_progress_shows_on_a_terminal(corpus: Corpus) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen(
        [*VECMIGRATE, "inspect", corpus.source],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TQDM_MININTERVAL": "0"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # Linux reports the other side's end this way.
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"reading" in shown
    assert b"vec/s" in shown


@pytest.mark.parametrize("command", [*COMMANDS, "dry-run", "compare", *PRODUCTION])
def test_every_command_has_examples(command: str) -> None:
    out, _ = run(command, "--help")
    assert f"vecmigrate {command}" in out
    assert "--json" in out
    assert "--quiet" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["inspect", "faiss:{f}/none.faiss"], ExitCode.BAD_INPUT, "none.faiss"),
        (["inspect", "{f}/old.faiss"], ExitCode.USAGE, "is not a collection's URI"),
        (["inspect", "milvus:{f}/x"], ExitCode.USAGE, "faiss, lancedb, npy, parquet, qdrant"),
        (["inspect", "qdrant:{f}/none/x"], ExitCode.BAD_INPUT, "none"),
        (["fit", "--out", "{f}/u"], ExitCode.USAGE, "--anchors"),
        (["fit", "--anchors", "{f}/old.faiss", "--out", "{f}/u"], ExitCode.BAD_INPUT,
         "anchor file"),
        (["fit", "--anchors", "{f}/anchors.parquet", "--out", "{f}/t.safetensors"],
         ExitCode.TARGET_EXISTS, "exists"),
        (["fit", "--source-vectors", "{f}/old-queries.npy", "--target-vectors", "{f}/new.npy",
          "--out", "{f}/u"], ExitCode.BAD_INPUT, "do not pair"),
        (["translate", "{f}/t.safetensors", "{f}/new.npy", "{f}/u"], ExitCode.MISMATCH,
         "translator of 16"),
        (["translate", "{f}/t.safetensors", "{f}/old.jsonl", "{f}/u"], ExitCode.BAD_INPUT,
         "not a readable .npy"),
        (["migrate", "faiss:{f}/old.faiss", "faiss:{f}/old.faiss", "--translator",
          "{f}/t.safetensors"], ExitCode.TARGET_EXISTS, "old.faiss"),
        (["migrate", "faiss:{f}/old.faiss", "faiss:{f}/u", "--translator", "{f}/t.safetensors",
          "--source-encoder", "another"], ExitCode.MISMATCH, "fitted for old-model"),
        (["anchors", "faiss:{f}/old.faiss", "--encoder", "vectors:{f}/new.npy", "--size", "9999",
          "--out", "{f}/u"], ExitCode.BAD_INPUT, "fewer than the 9999"),
        (["anchors", "faiss:{f}/old.faiss", "--encoder", "vectors:{f}/old-queries.npy", "--size",
          "300", "--out", "{f}/u"], ExitCode.BAD_INPUT, "old-queries.npy"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_a_documented_code(
    job: Corpus, arguments: list[str], code: ExitCode, says: str
) -> None:
    filled = [a.format(f=job.folder) for a in arguments]
    out, err = run(*filled, code=code)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert says in err
    out, _ = run(*filled, "--json", code=code)
    assert json.loads(out)["error"]["exit_code"] == code
    assert not (job.folder / "u").exists()


def test_queries_of_another_encoder_are_refused(job: Corpus) -> None:
    run("migrate", job.source, f"faiss:{job.folder}/new.faiss", "--translator",
        job.folder / "t.safetensors", "-q")  # fmt: skip
    _, err = run(*evaluate_arguments(job.folder, name="other"), code=ExitCode.MISMATCH)
    assert "is in the space of new-model" in err


def test_a_warning_says_what_to_do(corpus: Corpus) -> None:
    folder = corpus.folder
    np.save(folder / "few-old.npy", corpus.old[:5])
    np.save(folder / "few-new.npy", corpus.new[:5])
    _, err = run("fit", "--source-vectors", folder / "few-old.npy", "--target-vectors",
                 folder / "few-new.npy", "--out", folder / "t")  # fmt: skip
    assert err.startswith("warning: 5 anchors")
    assert "draw at least 16" in err


def test_comparing_candidates_warns_once(corpus: Corpus) -> None:
    folder = corpus.folder
    wide = np.random.default_rng(0).standard_normal((60, 80)).astype(np.float32)
    np.save(folder / "wide.npy", wide)
    _, err = run("fit", "--source-vectors", folder / "wide.npy", "--target-vectors",
                 folder / "wide.npy", "--out", folder / "t")  # fmt: skip
    assert err.count("warning:") <= 1


@pytest.mark.parametrize("options", [[], ["--json"], ["--help"]])
def test_an_output_that_nobody_reads_is_no_error(corpus: Corpus, options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*VECMIGRATE, "inspect", corpus.source, *options],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["inspect", "history", "run", "drop-source", "compare"])
def test_the_usage_shows_what_may_be_left_out_in_one_pair_of_brackets(command: str) -> None:
    out, _ = run(command, "--help")
    usage = next(line for line in out.splitlines() if "Usage:" in line)
    assert "[[" not in usage
    assert "[target]" not in usage


def test_a_parquet_file_of_others_is_no_anchor_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "other.parquet")
    _, err = run("fit", "--anchors", tmp_path / "other.parquet", "--out", tmp_path / "t",
                 code=ExitCode.BAD_INPUT)  # fmt: skip
    assert f"{tmp_path / 'other.parquet'} is not an anchor file" in err
    assert "b'" not in err


def test_the_table_of_exit_codes_is_the_truth() -> None:
    table = (Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md").read_text()
    documented = {
        int(line.split("|")[1]) for line in table.splitlines() if line.startswith("| ")
        and line.split("|")[1].strip().isdigit()
    }  # fmt: skip
    assert documented == {int(code) for code in ExitCode}


def test_an_interrupt_publishes_nothing(job: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vecmigrate.jobs.steps.migrate.migrate", interrupted)
    _, err = run("migrate", job.source, f"faiss:{job.folder}/new.faiss", "--translator",
                 job.folder / "t.safetensors", code=ExitCode.INTERRUPTED)  # fmt: skip
    assert err.startswith("error: interrupted")
