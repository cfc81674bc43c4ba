"""Unfinished targets beside their names: of the version before, of killed runs, of two at once."""

from __future__ import annotations

import fcntl
import json
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.forked import Forked

from vecmigrate import open_sink, open_source
from vecmigrate.connector import LockedError, Staging, TargetExistsError, UsageError, take_lock
from vecmigrate.connector.registry import open_updater, resume_sink
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric, Provenance, TargetSpec

BEFORE = Path(__file__).parents[2] / "data" / "unfinished_targets.zip"
PLACES = {
    "faiss": "faiss:{}/new.faiss",
    "parquet": "parquet:{}/new",
    "npy": "npy:{}/new.npy",
    "lancedb": "lancedb:{}/new",
}


def spec_of(when: str) -> TargetSpec:
    provenance = Provenance(vecmigrate_version="0", source="faiss:old", created_at=when)
    return TargetSpec(dimension=4, metric=Metric.DOT, provenance=provenance)


MINE, ANOTHERS = spec_of("2026-01-01"), spec_of("2026-01-02")


def batch(first: int, last: int) -> VectorBatch:
    ids = np.arange(first, last)
    vectors = np.repeat(ids[:, None] + 1, 4, axis=1).astype(np.float32)
    return VectorBatch(ids, vectors, [{"text": f"point {n}"} for n in ids.tolist()])


def check(uri: str, count: int) -> None:
    with open_source(uri) as source:
        assert source.describe().provenance == MINE.provenance
        assert source.describe().metric is Metric.DOT
        (found,) = source.batches(100)
        expected = batch(0, count)
        assert found.ids.tolist() == expected.ids.tolist()
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        assert list(found.each_payload()) == list(expected.each_payload())


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """What the version left that made the archive; see make_unfinished_targets.py."""
    with zipfile.ZipFile(BEFORE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.mark.parametrize("store", PLACES)
def test_what_the_version_before_left_is_continued_or_refused(store: str, before: Path) -> None:
    uri = PLACES[store].format(before / store)
    token = json.loads((before / "tokens.json").read_text())[store]
    with pytest.raises(TargetExistsError) as refused:
        open_sink(uri, ANOTHERS)
    assert "--restart" in str(refused.value.remedy)
    with pytest.raises(TargetExistsError):
        resume_sink(uri, ANOTHERS, token)
    with resume_sink(uri, MINE, token) as sink:
        sink.write(batch(6, 9))
        assert sink.finish().count == 9
    check(uri, 9)
    assert not list((before / store).glob(".*"))


@pytest.mark.parametrize("store", PLACES)
def test_what_the_version_before_left_is_begun_anew(store: str, before: Path) -> None:
    uri = PLACES[store].format(before / store)
    with open_sink(uri, MINE) as sink:
        sink.write(batch(0, 3))
        sink.finish()
    check(uri, 3)
    assert not list((before / store).glob(".*"))


@pytest.mark.parametrize("store", PLACES)
def test_what_the_version_before_finished_is_read_and_changed(store: str, before: Path) -> None:
    uri = PLACES[store].replace("new", "whole").format(before / store)
    check(uri, 6)
    if store == "npy":  # has no updater
        return
    assert MINE.provenance is not None
    with open_updater(uri, MINE.provenance) as updater:
        updater.upsert(batch(6, 7))
        assert updater.finish().count == 7
    check(uri, 7)


@pytest.mark.parametrize("store", PLACES)
def test_one_run_at_a_time_writes_a_target(store: str, tmp_path: Path) -> None:
    uri = PLACES[store].format(tmp_path)
    with open_sink(uri, MINE) as sink:
        token = sink.checkpoint()
        assert token is not None
        for spec in (MINE, ANOTHERS):
            for restart in (False, True):
                with pytest.raises(LockedError):
                    open_sink(uri, spec, restart=restart)
            with pytest.raises(LockedError):
                resume_sink(uri, spec, token)
        sink.write(batch(0, 4))
        assert sink.finish().count == 4
    check(uri, 4)


HOLD = """
import os, sys
from vecmigrate.connector import Staging, TargetSpec, Metric
from pathlib import Path
staging = Staging("x", Path(sys.argv[1]), TargetSpec(dimension=4, metric=Metric.DOT))
staging.begin(restart=False)
(staging.path / "rows").write_text("rows")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_kill_releases_a_target(tmp_path: Path) -> None:
    target = tmp_path / "new"
    holding = Forked("-c", HOLD, str(target))
    try:
        assert holding.stdout.readline() == "held\n"
        staging = Staging("x", target, TargetSpec(dimension=4, metric=Metric.DOT))
        with pytest.raises(LockedError):
            staging.begin(restart=True)
    finally:
        holding.send_signal(signal.SIGKILL)
        holding.communicate()
    with pytest.raises(TargetExistsError):
        staging.begin(restart=False)
    staging.begin(restart=True)
    assert not list(staging.files())
    staging.discard()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_holder_removed_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder may remove the file between another's opening and locking it."""
    path, flock = tmp_path / "lock", fcntl.flock

    def after_the_holder_is_done(*given: object) -> None:
        path.unlink()
        flock(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", after_the_holder_is_done)
        with pytest.raises(LockedError):
            take_lock(path, LockedError("taken", remedy="Wait."))
    take_lock(path, LockedError("taken", remedy="Wait.")).close()


def test_files_beside_the_target_are_never_replaced(tmp_path: Path) -> None:
    spec, beside = TargetSpec(dimension=4, metric=Metric.DOT), tmp_path / "new.ids"
    staging = Staging("x", tmp_path / "new", spec, beside=[beside])
    beside.write_text("precious")
    with pytest.raises(TargetExistsError):
        staging.begin(restart=True)
    beside.unlink()
    staging.begin(restart=False)
    made, ids = staging.path / "made", staging.path / "ids"
    made.write_text("rows")
    ids.write_text("ids")
    beside.write_text("precious")
    with pytest.raises(TargetExistsError):
        staging.publish(made, [(ids, beside)])
    assert not (tmp_path / "new").exists()
    beside.unlink()
    staging.suspend()
    staging.resume()
    staging.publish(made, [(ids, beside)])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "new": "rows",
        "new.ids": "ids",
    }


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    staging = Staging("x", tmp_path / "none" / "new", MINE)
    with pytest.raises(UsageError):
        staging.begin(restart=False)
