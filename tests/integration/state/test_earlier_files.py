"""What an earlier vecmigrate left on disk is read: state, ledgers, marks, translators, reports.

tests/data/make_earlier_files.py made the files with the version of commit 4b046cd.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.crash import contents
from typer.testing import CliRunner

from vecmigrate import load_anchors, load_translator
from vecmigrate.cli import app
from vecmigrate.errors import ExitCode
from vecmigrate.state import STATE_VARIABLE

DATA = Path(__file__).parents[2] / "data"


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maker", DATA / "make_earlier_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()
FOLLOWED = [store for store in maker.STORES if store != "npy"]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files, where they were made, since a state file names collections by absolute paths."""
    root: Path = maker.ROOT
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    with tarfile.open(DATA / "earlier_files.tar.xz") as archive:
        archive.extractall(root, filter="data")
    monkeypatch.setenv(STATE_VARIABLE, str(root / "state.sqlite"))
    monkeypatch.chdir(root)
    yield root
    shutil.rmtree(root)


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "kernel-ridge"])
def test_a_translator_gives_the_same_vectors(method: str, root: Path) -> None:
    translated = load_translator(root / method).transform(np.load(root / "queries.npy"))
    np.testing.assert_allclose(translated, np.load(root / f"{method}.npy"), atol=1e-6)


def test_anchors_are_read(root: Path) -> None:
    anchors = load_anchors(root / "anchors")
    assert len(anchors.ids) == 100


def test_a_report_is_compared(root: Path) -> None:
    [row] = run("compare", root / "report")["reports"]
    assert (row["documents"], row["anchors"]) == (maker.N, 100)


def test_the_history_is_told(root: Path) -> None:
    runs = run("history", "--limit", 100)["runs"]
    assert {run["command"] for run in runs} >= {"migrate", "verify", "sync", "cutover"}


@pytest.mark.parametrize("store", FOLLOWED)
def test_a_target_is_followed(store: str, root: Path) -> None:
    """Its ledger tells what changed: one text, and not all points."""
    lines = (root / "old.jsonl").read_text().splitlines()
    lines[7] = json.dumps({"id": 7, "text": "changed", "group": 2})
    (root / "old.jsonl").write_text("\n".join(lines) + "\n")
    target = maker.uri(store, "new")
    status = run("status", target, "--source", maker.SOURCE)
    done = run("sync", maker.SOURCE, target, "--translator", "procrustes")
    assert (done["arrived"], done["changed"], done["vanished"]) == (0, 1, 0), status
    run("verify", maker.SOURCE, target, "--translator", "procrustes")


@pytest.mark.parametrize("store", maker.STORES)
def test_a_killed_migration_is_refused_by_name(store: str, root: Path) -> None:
    """It cannot be told whether the source changed since; ``--restart`` makes the target anew."""
    half, whole = maker.uri(store, "half"), maker.uri(store, "new")
    command = ("migrate", maker.SOURCE, half, "--translator", "procrustes")
    refused = CliRunner().invoke(app, [*command, "--json"])
    assert refused.exit_code == ExitCode.MISMATCH
    error = json.loads(refused.stdout)["error"]
    assert half in error["message"]
    assert "--restart" in error["remedy"]
    run(*command, "--restart")
    assert contents(half) == contents(whole)


def test_a_cutover_is_rolled_back(root: Path) -> None:
    name = maker.uri("faiss", "current")
    run("rollback", name)
    assert contents(name) == contents(maker.uri("faiss", "new"))
