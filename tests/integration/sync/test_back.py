"""What changes at a new collection after a cutover is at the old one, so that a way leads back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from support.corpus import unit
from support.live import Job, N, contents, editing, make, payload, points
from support.qdrant.places import SERVED, Place, open_place
from typer.testing import CliRunner

from vecmigrate import Ridge, migrate, open_updater
from vecmigrate.cli import app
from vecmigrate.connector import ORIGIN_FIELD
from vecmigrate.cutover import cut_over, roll_back
from vecmigrate.errors import ExitCode, LockedError, MismatchError, TerminatedError, UsageError
from vecmigrate.state.file import open_records
from vecmigrate.sync import SyncResult, sync_back


def cut(job: Job, name: str) -> None:
    with open_records(job.state) as records:
        cut_over(name, job.target, records, unverified=True)


def back(job: Job, **settings: Any) -> SyncResult:
    return sync_back(job.target, job.source, job.state, **settings)


def write_natively(job: Job) -> None:
    """An application inserts, changes and deletes at the new collection."""
    with editing(job.target) as target:
        # 105 and 106, which are no anchors, with other texts; 550 and 551 are new.
        target.upsert(points(job.new, [105, 106, 550, 551], text="native"))
        target.delete(np.array([7, 8]))


def check_brought(job: Job, before: dict[Any, Any], done: SyncResult) -> None:
    assert (done.arrived, done.changed, done.vanished) == (2, 2, 2)
    after = contents(job.source)
    assert before.keys() - {7, 8} | {550, 551} == after.keys()
    for i in after.keys() - {105, 106, 550, 551}:
        np.testing.assert_array_equal(after[i][0], before[i][0])
        assert after[i][1] == before[i][1]
    for i in (105, 106, 550, 551):
        assert after[i][1] == payload(i, text="native")
    again = back(job, **({"keep_anchors": job.folder / "a.parquet"}))
    assert again.wrote == 0


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_a_map_of_the_other_direction_brings_what_changed(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store, store, anchors=True)
    live = f"{job.target.rpartition('/')[0]}/live"
    cut(job, live) if store == "qdrant" else cut(job, f"faiss:{tmp_path}/live.faiss")
    before = contents(job.source)
    write_natively(job)
    done = back(job, keep_anchors=tmp_path / "a.parquet")
    check_brought(job, before, done)
    assert (done.translated, done.encoded) == (4, 0)
    found = contents(job.source)
    other_way = Ridge().fit(job.new[:60], job.old[:60])
    for i in (105, 106, 550, 551):
        expected = unit(other_way.transform(job.new[[i]]))[0]
        np.testing.assert_allclose(found[i][0], expected, atol=1e-5)
    # The next sync takes none of that for changes of the source.
    assert job.run(keep_anchors=tmp_path / "a.parquet").wrote == 0
    assert contents(job.target)[550][1] == payload(550, text="native")


@pytest.fixture(params=SERVED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with open_place(request.param, tmp_path) as opened:
        yield opened


def test_a_collection_that_others_made_is_changed_and_gets_no_mark(
    place: Place, tmp_path: Path
) -> None:
    job = make(tmp_path, anchors=True)
    old, new, live = place.name(), place.name(), place.name("live")
    with place.client() as client:
        client.create_collection(
            old, models.VectorParams(size=job.old.shape[1], distance=models.Distance.COSINE)
        )
        client.upsert(
            old,
            [
                models.PointStruct(id=i, vector=job.old[i].tolist(), payload=payload(i))
                for i in range(N)
            ],
        )
        alias = models.CreateAlias(collection_name=old, alias_name=live)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    job = replace(job, source=place.uri(old), target=place.uri(new))
    migrate(job.source, job.target, job.translator, state=job.state)
    cut(job, place.uri(live))
    before = contents(job.source)
    write_natively(job)
    # And one that gets another payload alone.
    with place.client() as client:
        client.set_payload(new, {"n": -1}, points=[20])
    np.save(tmp_path / "old.npy", job.old)
    done = back(job, encoder=f"vectors:{tmp_path}/old.npy?name=old-model")
    assert (done.arrived, done.changed, done.vanished) == (2, 3, 2)
    assert (done.translated, done.encoded) == (0, 4)
    after = contents(job.source)
    assert before.keys() - {7, 8} | {550, 551} == after.keys()
    for i in (105, 106, 550, 551):
        np.testing.assert_allclose(after[i][0], job.old[i], atol=1e-6)
        assert after[i][1] == payload(i, text="native")
    assert after[20][1] == {**payload(20), "n": -1}
    np.testing.assert_allclose(after[20][0], job.old[20], atol=1e-6)
    with place.client() as client:
        assert not client.get_collection(old).config.metadata
    assert back(job).wrote == 0
    with open_records(job.state) as records:
        roll_back(place.uri(live), records)
    with pytest.raises(MismatchError):
        back(job)


def test_before_a_cutover_the_source_is_never_changed(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    write_natively(job)
    before = contents(job.source)
    with pytest.raises(MismatchError):
        back(job, keep_anchors=tmp_path / "a.parquet")
    cut(job, f"faiss:{tmp_path}/live.faiss")
    with pytest.raises(UsageError):
        back(job)
    planned = back(job, dry_run=True)
    assert (planned.arrived, planned.changed, planned.vanished) == (2, 2, 2)
    with editing(job.target) as target:
        target.delete(np.arange(200))
    with pytest.raises(MismatchError):
        back(job, keep_anchors=tmp_path / "a.parquet")
    after = contents(job.source)
    assert all(np.array_equal(after[i][0], before[i][0]) for i in before)
    assert after.keys() == before.keys()


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    cut(job, f"faiss:{tmp_path}/live.faiss")
    before = contents(job.source)
    write_natively(job)
    asked = iter([False] * 305 + [True])
    with pytest.raises(TerminatedError):
        back(
            job, keep_anchors=tmp_path / "a.parquet", batch_size=1,
            stop=lambda: next(asked, True),
        )  # fmt: skip
    back(job, keep_anchors=tmp_path / "a.parquet")
    after = contents(job.source)
    assert before.keys() - {7, 8} | {550, 551} == after.keys()
    assert back(job).wrote == 0


def test_nobody_else_changes_what_it_writes_or_leads_readers_there(tmp_path: Path) -> None:
    """Though its state file is another one's, as on two machines."""
    job = make(tmp_path)
    cut(job, f"faiss:{tmp_path}/first.faiss")
    with editing(job.target) as target:
        target.delete(np.array([7, 8]))
    refused: list[str] = []

    def others() -> bool:
        if not refused:
            for attempt in (
                lambda: open_updater(job.source, None),
                lambda: cut_over_to_the_old(tmp_path, job),
            ):
                # In a thread, since this run may do what it holds.
                with ThreadPoolExecutor(1) as another, pytest.raises(LockedError) as caught:
                    another.submit(attempt).result()
                refused.append(str(caught.value))
        return False

    assert back(job, stop=others).vanished == 2
    assert len(refused) == 2
    cut_over_to_the_old(tmp_path, job)


def cut_over_to_the_old(folder: Path, job: Job) -> None:
    with open_records(folder / "another" / "state.sqlite") as records:
        cut_over(f"faiss:{folder}/second.faiss", job.source, records, unverified=True)


def test_readers_go_back_from_what_cannot_be_read(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    name = f"faiss:{tmp_path}/live.faiss"
    for end in ("", ".jsonl", ".vecmigrate.json"):
        (tmp_path / f"live.faiss{end}").write_bytes((tmp_path / f"old.faiss{end}").read_bytes())
    cut(job, name)
    sidecar = tmp_path / "new.faiss.jsonl"
    sidecar.write_text(sidecar.read_text() + "no JSON\n")
    done = CliRunner().invoke(app, ["rollback", name, "--state", str(job.state)])
    assert done.exit_code == 0, done.output
    assert contents(name).keys() == contents(job.source).keys()


def test_a_rollback_says_what_it_would_lose(tmp_path: Path) -> None:
    job = make(tmp_path, anchors=True)
    name = f"faiss:{tmp_path}/live.faiss"
    cut(job, f"faiss:{tmp_path}/first.faiss")
    for end in ("", ".jsonl", ".vecmigrate.json"):
        (tmp_path / f"live.faiss{end}").write_bytes((tmp_path / f"old.faiss{end}").read_bytes())
    cut(job, name)
    write_natively(job)
    asked = ["rollback", name, "--state", str(job.state), "--json"]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == ExitCode.USAGE
    assert "6" in json.loads(refused.stdout)["error"]["message"]
    done = CliRunner().invoke(app, [*asked, "--yes"])
    assert done.exit_code == 0, done.output
    cut(job, name)
    old = f"faiss:{tmp_path}/live.faiss.generations/1/live.faiss"
    brought = CliRunner().invoke(
        app,
        ["sync", "--back", name, old, "--keep-anchors", str(tmp_path / "a.parquet"),
         "--state", str(job.state), "--json"],
    )  # fmt: skip
    assert brought.exit_code == 0, brought.output
    told = json.loads(brought.stdout)
    assert (told["arrived"], told["changed"], told["vanished"]) == (2, 2, 2)
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert not list(tmp_path.rglob(".*lease"))
    found = contents(name)
    assert found[550][1] == payload(550, text="native")
    assert ORIGIN_FIELD not in found[550][1]


def test_what_a_killed_sync_wrote_is_not_taken_for_what_applications_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(tmp_path, "qdrant", "qdrant", anchors=True)
    kept = {"keep_anchors": tmp_path / "a.parquet"}
    cut(job, f"{job.target.rpartition('/')[0]}/live")
    with editing(job.source) as source:
        source.upsert(points(job.old, [20, N + 1], more=1))
    before = contents(job.source)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # It has written, and not yet noted it.
        patched.setattr("vecmigrate.sync.write.read_back", killed)
        with pytest.raises(KeyboardInterrupt):
            job.run(**kept)
    assert contents(job.target)[N + 1][1]["more"] == 1
    assert back(job, **kept).wrote == 0
    assert str(contents(job.source)) == str(before)
