"""Targets of Parquet and NumPy files are whole or not there, killed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.corpus import Corpus
from support.crash import check_a_kill_changes_nothing, contents, make_source, make_translator
from support.files_cases import (
    COUNT,
    DIM,
    PLACES,
    identity,
    read,
    unit_vectors,
    write,
)
from support.small_disk import enlarge, small_disk
from typer.testing import CliRunner

from vecmigrate import migrate, open_sink, open_source, resume_sink, save_translator
from vecmigrate.cli import app
from vecmigrate.connector import Metric, Provenance, TargetSpec, VectorBatch, id_array, staging
from vecmigrate.errors import (
    ExitCode,
    InputError,
    LockedError,
    MismatchError,
    TargetExistsError,
    UsageError,
    WriteError,
)


@pytest.mark.parametrize("place", PLACES)
def test_an_existing_target_and_what_a_sink_cannot_hold(tmp_path: Path, place: str) -> None:
    uri = place.format(tmp_path)
    spec = TargetSpec(dimension=DIM, metric=Metric.DOT)
    with pytest.raises(UsageError, match="the collection's metric is dot"):
        open_sink(f"{uri}?metric=cosine", spec)
    with pytest.raises(UsageError, match="there is no folder"):
        open_sink(place.format(tmp_path / "none"), spec)
    mixed = id_array([1, "a"])
    with open_sink(uri, spec) as sink, pytest.raises(MismatchError, match="hold the id a: "):
        sink.write(VectorBatch(mixed, unit_vectors(2)))
    with open_sink(uri, spec) as sink:
        sink.write(VectorBatch(np.arange(2), unit_vectors(2)))
        with pytest.raises(MismatchError, match="cannot hold the id a"):
            sink.write(VectorBatch(id_array(["a"]), unit_vectors(1)))
        with pytest.raises(MismatchError, match=f"cannot hold the id {2**63}: .* int64"):
            sink.write(VectorBatch(id_array([5, 2**63]), unit_vectors(2)))
        with pytest.raises(MismatchError, match="payload of 7 is not JSON"):
            sink.write(VectorBatch(id_array([7]), unit_vectors(1), [{"a": 1j}]))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / Path(uri).name).write_text("the user's own")
    for restart in (False, True):
        with pytest.raises(TargetExistsError):
            open_sink(uri, spec, restart=restart)
    assert (tmp_path / Path(uri).name).read_text() == "the user's own"


def test_files_beside_an_array_are_never_replaced(tmp_path: Path) -> None:
    spec = TargetSpec(dimension=DIM, metric=Metric.DOT)
    for name in ("new.ids.npy", "new.jsonl", "new.npy.vecmigrate.json"):
        (tmp_path / name).write_text("the user's own")
        with pytest.raises(TargetExistsError, match=name):
            open_sink(f"npy:{tmp_path}/new.npy", spec)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    for wrong in ("new.bin", "new.npy?ids=/elsewhere/i.npy", "new.npy?payload=p.parquet"):
        with pytest.raises(UsageError):
            open_sink(f"npy:{tmp_path}/{wrong}", spec)
    with pytest.raises(MismatchError, match="null character"):
        write(f"npy:{tmp_path}/new.npy", VectorBatch(id_array(["a\0"]), unit_vectors(1)))


def test_what_another_makes_meanwhile_stays(tmp_path: Path) -> None:
    for name in ("new.jsonl", "new.npy"):
        spec = TargetSpec(dimension=DIM, metric=Metric.DOT)
        with open_sink(f"npy:{tmp_path}/new.npy", spec) as sink:
            sink.write(VectorBatch(np.arange(3, 6), unit_vectors(3), [{"n": 1}] * 3))
            (tmp_path / name).write_text("another's")
            with pytest.raises(TargetExistsError, match=name):
                sink.finish()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "another's"
        (tmp_path / name).unlink()


def test_files_beside_an_array_by_other_names(tmp_path: Path) -> None:
    # The options are the source's too, and then the files are to be there, needed or not.
    uri = f"npy:{tmp_path}/new.npy?ids={tmp_path}/i.npy&payload={tmp_path}/p.jsonl"
    write(uri, VectorBatch(np.arange(COUNT), unit_vectors()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "i.npy", "new.npy", "new.npy.vecmigrate.json", "p.jsonl",
    ]  # fmt: skip
    for spelled in (uri, f"npy:{tmp_path}/new.npy"):
        assert read(spelled).ids.tolist() == list(range(COUNT))
        assert read(spelled).payloads == [{}] * COUNT


def test_an_array_of_numbered_rows_is_one_file_and_its_note(tmp_path: Path) -> None:
    write(f"npy:{tmp_path}/new.npy", VectorBatch(np.arange(COUNT), unit_vectors()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.npy", "new.npy.vecmigrate.json"]
    np.testing.assert_array_equal(np.load(tmp_path / "new.npy"), unit_vectors())


@pytest.mark.parametrize("place", PLACES)
def test_an_empty_collection(tmp_path: Path, place: str) -> None:
    uri = place.format(tmp_path)
    with open_sink(uri, TargetSpec(dimension=DIM, metric=Metric.DOT)) as sink:
        described = sink.finish()
    assert (described.count, described.dimension) == (0, DIM)
    with open_source(uri) as source:
        assert list(source.batches(10)) == list(source.ids(10)) == []
        assert len(source.fetch([])) == 0


@pytest.mark.parametrize("place", PLACES)
def test_ids_written_again_in_later_parts(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmigrate_files.parquet.sink.group_rows", lambda dimension: 20)
    uri, vectors = place.format(tmp_path), unit_vectors()
    spec = TargetSpec(dimension=DIM, metric=Metric.DOT)
    with open_sink(uri, spec) as sink:
        for start in range(0, COUNT, 100):
            rows = np.arange(start, start + 100)
            sink.write(VectorBatch(rows, vectors[rows], [{"n": int(n)} for n in rows]))
        again = np.arange(5, COUNT, 7)
        sink.write(VectorBatch(again, -vectors[again], [{"again": True}] * len(again)))
        sink.finish()
    if uri.endswith("/new"):
        assert len(list((tmp_path / "new").iterdir())) > 5
    found = read(uri)
    rows = np.argsort(found.ids)
    assert found.ids[rows].tolist() == list(range(COUNT))
    signs = np.where(np.isin(np.arange(COUNT), again), -1, 1)[:, None]
    np.testing.assert_array_equal(found.vectors[rows], signs * vectors)
    payloads = [(found.payloads or [])[row] for row in rows.tolist()]
    assert payloads == [{"again": True} if n % 7 == 5 else {"n": n} for n in range(COUNT)]


@pytest.mark.parametrize("place", PLACES)
def test_a_run_goes_on_from_any_of_its_last_two_checkpoints(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmigrate_files.parquet.sink.group_rows", lambda dimension: 10)
    uri, vectors = place.format(tmp_path), unit_vectors()
    spec = TargetSpec(dimension=DIM, metric=Metric.DOT)

    def step(sink: Any, start: int) -> None:
        rows = np.arange(start, start + 250)
        sink.write(VectorBatch(rows, vectors[rows], [{"n": int(n)} for n in rows]))

    with open_sink(uri, spec) as sink:
        token = sink.checkpoint()
        sink.suspend()
    done = 0
    while done < COUNT:
        with resume_sink(uri, spec, token) as sink:
            step(sink, done)
            token = sink.checkpoint()
            done += 250
            # A checkpoint that was made, and not recorded: it is done once more.
            if done < COUNT:
                step(sink, done)
                sink.checkpoint()
            sink.suspend()
    with resume_sink(uri, spec, token) as sink:
        assert sink.finish().count == COUNT
    found = read(uri)
    assert found.ids.tolist() == list(range(COUNT))
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.payloads == [{"n": n} for n in range(COUNT)]
    assert not list(tmp_path.glob(".*"))


def test_a_part_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecmigrate_files.parquet.sink.group_rows", lambda dimension: 10)
    spec, uri = TargetSpec(dimension=DIM, metric=Metric.DOT), f"parquet:{tmp_path}/new"
    with open_sink(uri, spec) as sink:
        for start in range(0, 800, 200):
            sink.write(VectorBatch(np.arange(start, start + 200), unit_vectors(200)))
        token = sink.checkpoint()
        assert token is not None
        sink.suspend()
    (tmp_path / ".new.vecmigrate-staging" / "parts" / "part-00001.parquet").unlink()
    with pytest.raises(MismatchError, match=r"has lost part-00001.parquet"):
        resume_sink(uri, spec, token)


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_that_is_gone_and_another_run_s(tmp_path: Path, place: str) -> None:
    uri = place.format(tmp_path)
    mine, other = (
        TargetSpec(
            dimension=DIM,
            metric=Metric.DOT,
            provenance=Provenance(vecmigrate_version="0", source="faiss:x", created_at=when),
        )
        for when in ("2026-01-01", "2026-01-02")
    )
    with open_sink(uri, mine) as sink:
        early = sink.checkpoint()
        assert early is not None
        with pytest.raises(LockedError):
            open_sink(uri, mine)
        sink.write(VectorBatch(np.arange(3), unit_vectors(3)))
        late = sink.checkpoint()
        assert late is not None
        sink.suspend()
    with pytest.raises(InputError, match="unfinished"):
        open_source(uri)
    with pytest.raises(MismatchError, match="is no checkpoint"):
        resume_sink(uri, mine, "99")
    with pytest.raises(TargetExistsError, match="another run"):
        resume_sink(uri, other, late)
    with pytest.raises(MismatchError, match="has lost"):
        resume_sink(uri, mine, late.replace('"size":', '"size":1'))
    with resume_sink(uri, mine, early) as sink:
        assert sink.finish().count == 0
    with pytest.raises(TargetExistsError):
        resume_sink(uri, mine, late)
    with pytest.raises(MismatchError, match="nothing is left"):
        resume_sink(place.format(tmp_path).replace("/new", "/none"), mine, late)


@pytest.mark.parametrize("place", PLACES)
def test_a_run_killed_while_it_publishes(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of the names is given, and before the folder is removed."""
    uri = place.format(tmp_path)
    spec = TargetSpec(
        dimension=DIM,
        metric=Metric.DOT,
        provenance=Provenance(vecmigrate_version="0", source="faiss:x", created_at="2026"),
    )
    batch = VectorBatch(np.arange(5, 9), unit_vectors(4), [{"n": 1}] * 4)
    names = ["new.ids.npy", "new.jsonl", "new.npy.vecmigrate.json"] if "npy" in place else []
    for killed_at in range(len(names) + 2):
        sink = open_sink(uri, spec)
        sink.write(batch)
        token = sink.checkpoint()
        assert token is not None
        with monkeypatch.context() as patch:
            die_at_name(patch, killed_at)
            with pytest.raises(KeyboardInterrupt):
                sink.finish()
        sink.suspend()
        finished = killed_at == len(names) + 1
        there = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
        assert there == {*names[:killed_at], *([Path(uri).name] if finished else [])}
        if not finished:
            resume_sink(uri, spec, token).suspend()
            # Its own names were taken back.
            assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    with pytest.raises(TargetExistsError):
        resume_sink(uri, spec, token)
    assert not list(tmp_path.glob(".*"))
    assert read(uri).ids.tolist() == [5, 6, 7, 8]


def die_at_name(patch: pytest.MonkeyPatch, at: int) -> None:
    """Raise where a run would give its ``at``-th name, or where it would tidy up after the last."""
    give_name, left = staging.give_name, [at]

    def give(made: Path, name: Path) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        give_name(made, name)

    def discard(self: Any) -> None:
        raise KeyboardInterrupt

    patch.setattr(staging, "give_name", give)
    patch.setattr(staging.Staging, "discard", discard)


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_killed_migration_ends_like_one_that_was_not(tmp_path: Path, place: str) -> None:
    whole, killed = (place.replace("new", name).format(tmp_path) for name in ("whole", "killed"))
    check_a_kill_changes_nothing(tmp_path, whole, killed)
    assert not list(tmp_path.glob(".killed*"))


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_one_error_and_goes_on_with_more_room(tmp_path: Path, place: str) -> None:
    make_translator(tmp_path)
    source = make_source("faiss", tmp_path, 2000)
    arguments = {"state": tmp_path / "s", "batch_size": 200, "checkpoint_seconds": 0.0}
    with small_disk(tmp_path, "100k") as disk:
        target = place.format(disk)
        with pytest.raises(WriteError, match="cannot be written"):
            migrate(source, target, tmp_path / "translator", **arguments)
        assert not (disk / Path(target).name).exists()
        enlarge(disk, "4m")
        result = migrate(source, target, tmp_path / "translator", **arguments)
        assert result.continued_after > 0
        assert len(contents(target)) == 2000


@pytest.mark.parametrize("place", PLACES)
def test_faiss_to_files_and_back_on_the_command_line(
    corpus: Corpus, tmp_path: Path, place: str
) -> None:
    (tmp_path / "out").mkdir()
    there, back = place.format(tmp_path / "out"), f"faiss:{tmp_path}/back.faiss"
    save_translator(identity(corpus.old.shape[1]), tmp_path / "t.safetensors")
    run, by = CliRunner().invoke, ["--translator", str(tmp_path / "t.safetensors")]
    for source, target in ((corpus.source, there), (there, back)):
        ended = run(app, ["migrate", source, target, *by])
        assert ended.exit_code == 0, ended.output
    old, new = contents(corpus.source), contents(back)
    assert old.keys() == new.keys()
    assert [p for _, p in old.values()] == [p for _, p in new.values()]
    for (vector, _), (again, _) in zip(old.values(), new.values(), strict=True):
        np.testing.assert_allclose(
            np.frombuffer(again, np.float32), np.frombuffer(vector, np.float32), atol=1e-6
        )
    shown = json.loads(run(app, ["inspect", there, "--json"]).output)
    assert shown["collection"]["count"] == len(old)
    refused = run(app, ["migrate", corpus.source, there, *by, "--restart"])
    assert refused.exit_code == ExitCode.TARGET_EXISTS
