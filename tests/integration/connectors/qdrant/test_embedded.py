"""Embedded storage: directories, locks, killed runs, and the files left behind."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client.local.local_collection import LocalCollection
from support.forked import Forked
from support.qdrant.places import DIMENSION, params, points
from typer.testing import CliRunner

from vecmigrate import Procrustes, open_sink, open_source, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import (
    InputError,
    Metric,
    TargetExistsError,
    TargetSpec,
    UsageError,
    VecmigrateError,
    VectorBatch,
    WriteError,
    id_array,
)
from vecmigrate.errors import ExitCode

SPEC = TargetSpec(dimension=DIMENSION, metric=Metric.DOT)


def write(uri: str) -> None:
    with open_sink(uri, SPEC) as sink:
        sink.write(points([1, 2, 3]))
        sink.finish()


def test_reading_never_makes_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"qdrant:{tmp_path}/absent/docs")
    assert list(tmp_path.iterdir()) == []


def test_reading_never_adds_to_a_directory_that_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not embedded Qdrant storage"):
        open_source(f"qdrant:{tmp_path}/docs")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_directorys_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="cannot be opened"):
        open_sink(f"qdrant:{tmp_path}/file/docs", SPEC)
    with pytest.raises(InputError):
        open_source(f"qdrant:{tmp_path}/file/docs")


def test_a_relative_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("qdrant:storage/docs")
    with (
        open_source("qdrant:./storage/docs") as source,
        open_source(f"qdrant:{tmp_path}/storage/docs"),
    ):
        assert source.describe().count == 3


@pytest.mark.parametrize("damaged", ["meta.json", "collection/docs/storage.sqlite"])
def test_damaged_storage_is_one_clear_error_and_frees_the_lock(
    tmp_path: Path, damaged: str
) -> None:
    write(f"qdrant:{tmp_path}/docs")
    whole = (tmp_path / damaged).read_bytes()
    (tmp_path / damaged).write_bytes(b"{ this is neither JSON nor SQLite" * 200)
    with pytest.raises(InputError, match="cannot be opened"):
        open_source(f"qdrant:{tmp_path}/docs")
    (tmp_path / damaged).write_bytes(whole)
    with open_source(f"qdrant:{tmp_path}/docs") as source:
        assert source.describe().count == 3


def test_storage_held_by_another_process_is_one_clear_error(tmp_path: Path) -> None:
    write(f"qdrant:{tmp_path}/docs")
    code = (
        "import sys; from qdrant_client import QdrantClient\n"
        f"client = QdrantClient(path={str(tmp_path)!r})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with Forked("-c", code) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"in use by another client.*one process at a time"):
            open_source(f"qdrant:{tmp_path}/docs")
        with pytest.raises(WriteError, match="in use by another client"):
            open_sink(f"qdrant:{tmp_path}/new", SPEC)
        holder.communicate(timeout=30)
    with open_source(f"qdrant:{tmp_path}/docs") as source:
        assert source.describe().count == 3


def test_storage_held_by_another_client_of_this_program(tmp_path: Path) -> None:
    write(f"qdrant:{tmp_path}/docs")
    client = QdrantClient(path=str(tmp_path))
    with pytest.raises(InputError, match="in use by another client"):
        open_source(f"qdrant:{tmp_path}/docs")
    client.close()
    open_source(f"qdrant:{tmp_path}/docs").close()


def test_the_lock_is_held_until_the_last_one_closes_and_no_longer(tmp_path: Path) -> None:
    write(f"qdrant:{tmp_path}/docs")
    first, second = (open_source(f"qdrant:{tmp_path}/docs") for _ in range(2))
    first.close()
    first.close()
    assert second.describe().count == 3
    with pytest.raises(RuntimeError):
        QdrantClient(path=str(tmp_path))
    second.close()
    QdrantClient(path=str(tmp_path)).close()


@pytest.mark.parametrize("uri", ["qdrant:{}/absent", "qdrant:{}/docs?vector=absent"])
def test_a_refused_collection_does_not_keep_the_lock(tmp_path: Path, uri: str) -> None:
    write(f"qdrant:{tmp_path}/docs")
    with pytest.raises((InputError, UsageError)):
        open_source(uri.format(tmp_path))
    with pytest.raises(TargetExistsError):
        open_sink(f"qdrant:{tmp_path}/docs", SPEC)
    QdrantClient(path=str(tmp_path)).close()


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_target_leaves_the_disk_as_it_was(tmp_path: Path, there: bool) -> None:
    directory = tmp_path / "a" / "b"
    if there:
        directory.mkdir(parents=True)
        (directory / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    batch = points([1])
    unfit = VectorBatch(id_array(["eu/1"]), batch.vectors, batch.payloads)
    with (
        pytest.raises(VecmigrateError),
        open_sink(f"qdrant:{directory}/new", SPEC) as sink,
    ):
        sink.write(unfit)
    assert sorted(tmp_path.rglob("*")) == before
    # What holds a collection stays.
    with open_sink(f"qdrant:{directory}/new", SPEC) as sink:
        sink.write(batch)
        sink.finish()
    with pytest.raises(VecmigrateError), open_sink(f"qdrant:{directory}/other", SPEC) as sink:
        sink.write(unfit)
    with open_source(f"qdrant:{directory}/new") as source:
        assert source.describe().count == 1


def test_a_killed_run_leaves_a_collection_that_restart_replaces(tmp_path: Path) -> None:
    write(f"qdrant:{tmp_path}/docs")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from support.qdrant.places import DIMENSION, points\n"
        "from vecmigrate import open_sink\n"
        "from vecmigrate.connector import TargetSpec\n"
        "sink = open_sink(sys.argv[2], TargetSpec(dimension=DIMENSION, metric='dot'))\n"
        "sink.write(points(list(range(50))))\n"
        "os._exit(9)"
    )
    target = f"qdrant:{tmp_path}/new"
    killed = subprocess.run(
        [sys.executable, "-c", code, os.fspath(Path(__file__).parents[3]), target],
        check=False,
        timeout=60,
    )
    assert killed.returncode == 9
    with open_source(target) as source:
        assert source.describe().notes[0].startswith("unfinished")
    translator = tmp_path / "translator"
    save_translator(Procrustes().fit(np.eye(DIMENSION), np.eye(DIMENSION)), translator)
    for command in (["verify"], ["sync"], ["status"]):
        pair = [f"qdrant:{tmp_path}/docs", target, "--translator", str(translator)]
        ended = CliRunner().invoke(app, command + (pair if command != ["status"] else [target]))
        assert ended.exit_code == ExitCode.BAD_INPUT, ended.output
    with pytest.raises(TargetExistsError, match="--restart"):
        open_sink(target, SPEC)
    with open_sink(target, SPEC, restart=True) as sink:
        sink.write(points([8, 9]))
        sink.finish()
    with open_source(target) as source, open_source(f"qdrant:{tmp_path}/docs") as other:
        assert [i for ids in source.ids(9) for i in ids.tolist()] == [8, 9]
        assert other.describe().count == 3


def test_finished_files_are_as_qdrant_client_itself_leaves_them(tmp_path: Path) -> None:
    write(f"qdrant:{tmp_path}/docs")
    client = QdrantClient(path=str(tmp_path))
    client.create_collection("plain", params())
    client.close()
    for name in ("docs", "plain"):
        folder = tmp_path / "collection" / name
        assert [p.name for p in folder.iterdir()] == ["storage.sqlite"]
        with sqlite3.connect(folder / "storage.sqlite") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        connection.close()


def test_the_advice_against_large_embedded_collections_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalCollection, "LARGE_DATA_THRESHOLD", 2)
    monkeypatch.setattr("qdrant_client.local.qdrant_local.QdrantLocal.LARGE_DATA_THRESHOLD", 2)
    monkeypatch.setattr("qdrant_client.common.client_warnings.SEEN_MESSAGES", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(f"qdrant:{tmp_path}/docs")
        with open_source(f"qdrant:{tmp_path}/docs") as source:
            assert source.describe().count == 3


def test_payload_indexes_that_cannot_be_kept_are_noted(tmp_path: Path) -> None:
    settings = {"payload_schema": {"lang": {"data_type": "keyword"}}}
    spec = SPEC.model_copy(update={"store": "qdrant", "settings": settings})
    with open_sink(f"qdrant:{tmp_path}/docs", spec) as sink:
        assert any("lang" in note for note in sink.finish().notes)


def test_vectors_that_qdrant_refuses_are_one_clear_error(tmp_path: Path) -> None:
    batch = points([1])
    broken = batch.with_vectors(np.full((1, DIMENSION), np.nan, np.float32))
    with open_sink(f"qdrant:{tmp_path}/docs", SPEC) as sink, pytest.raises(VecmigrateError):
        sink.write(broken)
