"""On a server, in Qdrant's engine, after a cutover, of an unfinished target, after kills."""

from __future__ import annotations

import shutil
import signal
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest
from qdrant_client import models
from support.crash import stepper
from support.forgetting import (
    ANCHORS,
    GONE,
    OLD,
    Moved,
    N,
    editing,
    files_with,
    ids_of,
    letter,
    make,
    make_source,
    payload,
    text,
)
from support.qdrant.places import SERVED, open_place

from vecmigrate import Procrustes, migrate, open_source, patience, save_translator
from vecmigrate.anchors import load_anchors
from vecmigrate.cutover import cut_over
from vecmigrate.encoders import EmbeddingStore
from vecmigrate.errors import MismatchError, TerminatedError, UnreachableError
from vecmigrate.forget import Receipt
from vecmigrate.points.batch import VectorBatch, id_array
from vecmigrate.state.file import open_records
from vecmigrate.state.migrations import MigrationTable
from vecmigrate.sync.back import sync_back

TEXTS = [text(i) for i in GONE]


def left(receipt: Receipt) -> str:
    return "\n".join(each.place for each in receipt.left)


def moved_to(target: str, folder: Path) -> Moved:
    moved = make(folder, target)
    moved.migrate()
    return moved


@pytest.mark.parametrize("kind", SERVED)
def test_a_server_s_segments_and_snapshots_are_named(kind: str, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as there:
        name = there.name()
        moved = moved_to(there.uri(name), tmp_path)
        moved.delete()
        receipt = moved.forget()
        assert ids_of(moved.target) == set(range(N)) - set(GONE)
        assert "write-ahead log of" in left(receipt)
        assert files_with(tmp_path, *TEXTS) == []
        assert moved.sync().wrote == 0


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_snapshots_are_named(kind: str, tmp_path: Path) -> None:
    with open_place(kind, tmp_path) as there:
        moved = moved_to(there.uri(there.name()), tmp_path)
        assert there.engine is not None
        there.engine.snapshots = ["c-2026.snapshot"]
        moved.delete()
        assert "snapshot c-2026.snapshot" in left(moved.forget())


def test_qdrant_s_engine_is_named(tmp_path: Path) -> None:
    moved = moved_to(f"qdrant-edge:{tmp_path}/edge", tmp_path)
    moved.delete()
    receipt = moved.forget()
    assert ids_of(moved.target) == set(range(N)) - set(GONE)
    assert all(name.startswith("edge/") for name in files_with(tmp_path, *TEXTS))
    assert "segments" in left(receipt)


def test_what_is_said_of_a_lancedb_table_lets_the_points_go(tmp_path: Path) -> None:
    moved = moved_to(f"lancedb:{tmp_path}/db/new", tmp_path)
    moved.delete()
    told = left(moved.forget())
    assert ("data files of" in told, "versions of" in told) == (True, True)
    table = lancedb.connect(str(tmp_path / "db")).open_table("new")

    def drop_versions() -> None:
        with warnings.catch_warnings(category=UserWarning, action="ignore"):
            table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    drop_versions()
    # LanceDB keeps the rows in a data file of which less than a tenth is deleted.
    told = left(moved.forget())
    assert ("data files of" in told, "versions of" in told) == (True, False)
    assert files_with(tmp_path, *TEXTS)
    table.update(where="true", values_sql={"id": "id"})
    drop_versions()
    drop_versions()  # what the first one made anew is a version, too
    assert "new" not in left(moved.forget())
    assert files_with(tmp_path, *TEXTS) == []
    assert moved.sync().wrote == 0


def test_what_readers_had_before_is_named(tmp_path: Path) -> None:
    moved = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    make_source(f"faiss:{tmp_path}/current.faiss", moved.old)
    name = f"faiss:{tmp_path}/current.faiss"
    with open_records(moved.state) as records:
        cut_over(name, moved.target, records, unverified=True)
    moved.delete()
    receipt = moved.forget()
    assert "current.faiss.generations/1" in left(receipt)
    remaining = files_with(tmp_path, *TEXTS)
    assert remaining
    assert all(each.startswith("current.") for each in remaining)


def test_in_place_the_ledger_and_the_files_are_cleaned(tmp_path: Path) -> None:
    with open_place("rest", tmp_path) as there:
        name = there.name()
        made = make(tmp_path, there.uri(name, "vector=new&in_place=true"))
        moved = replace(made, source=there.uri(name, "vector=old"))
        cosine = models.VectorParams(size=OLD, distance=models.Distance.COSINE)
        points = [
            models.PointStruct(id=i, vector={"old": made.old[i].tolist()}, payload=payload(i))
            for i in range(N)
        ]
        with there.client() as client:
            client.create_collection(name, vectors_config={"old": cosine})
            client.upsert(name, points)
        moved.migrate()
        with pytest.raises(MismatchError):
            moved.forget()
        with there.client() as client:
            client.delete(name, models.PointIdsList(points=GONE))
        receipt = moved.forget()
        assert {each.what for each in receipt.removed} == {"anchors", "hashes and origins"}
        assert moved.sync().wrote == 0


def test_a_chain_of_moves_has_the_same_points(tmp_path: Path) -> None:
    first = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    (tmp_path / "on").mkdir()
    fitted = Procrustes().fit(first.new[:ANCHORS], first.old[:ANCHORS])
    save_translator(fitted, tmp_path / "on" / "t.safetensors")
    last = f"faiss:{tmp_path}/last.faiss"
    migrate(first.target, last, tmp_path / "on" / "t.safetensors", state=first.state)
    first.delete()
    first.forget()
    assert ids_of(first.target) == ids_of(last) == set(range(N)) - set(GONE)
    with pytest.raises(MismatchError):
        first.forget(targets=[first.source])


def test_an_unfinished_target_is_finished_first(tmp_path: Path) -> None:
    moved = make(tmp_path, f"faiss:{tmp_path}/new.faiss")
    calls = iter(range(100))
    with pytest.raises(TerminatedError):
        moved.migrate(batch_size=50, checkpoint_seconds=0, stop=lambda: next(calls) > 2)
    moved.delete()
    receipt = moved.forget()
    assert "unfinished" in left(receipt)
    # Rows are counted in a file: it begins anew.
    moved.migrate(restart=True)
    moved.forget()
    assert files_with(tmp_path, *TEXTS) == []


def test_a_target_that_cannot_change_is_named(tmp_path: Path) -> None:
    moved = moved_to(f"npy:{tmp_path}/new.npy", tmp_path)
    moved.delete()
    receipt = moved.forget()
    assert "npy:" in left(receipt)
    assert ids_of(moved.target) >= set(GONE)


def test_a_target_that_is_gone_keeps_nobody(tmp_path: Path) -> None:
    moved = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    moved.delete()
    for path in tmp_path.glob("new.*"):
        path.unlink()
    receipt = moved.forget()
    assert "cannot be read" in left(receipt)
    assert {each.what for each in receipt.removed} >= {"anchors", "hashes and origins"}


def test_a_source_that_does_not_answer(tmp_path: Path) -> None:
    made = make(tmp_path, f"faiss:{tmp_path}/new.faiss")
    with open_place("rest", tmp_path) as there:
        moved = replace(made, source=there.uri(there.name()))
        make_source(moved.source, made.old)
        moved.migrate()
    with patience("0"), pytest.raises(UnreachableError):
        moved.forget()
    assert GONE[0] in ids_of(moved.target)
    with patience("0"):
        receipt = moved.forget(still_at_source=True)
    assert moved.source in left(receipt)
    assert not ids_of(moved.target) & set(GONE)


def bought(moved: Moved) -> Path:
    """What a dry run beside the translator would have bought, a query's vector among it."""
    with open_source(moved.target) as target:
        encoder = load_anchors(moved.anchors).card.target_encoder
        assert target.describe().dimension == encoder.dimension
    folder = moved.folder / "embeddings"
    store = EmbeddingStore(folder, encoder, "document")
    for i in (*GONE, 5):
        store.keep([f"key of {i}"], moved.new[[i]], id_array([i]))
    return folder


def letters(moved: Moved) -> Path:
    with open_source(moved.target) as target:
        made = target.describe().provenance
    assert made is not None
    with open_records(moved.state) as records:
        [(key, _)] = MigrationTable(records).all()
    path = moved.state.parent / "dead-letters" / f"{key}.jsonl"
    path.parent.mkdir(exist_ok=True)
    # A refused point is not at the target: that it vanished is told by the source alone.
    path.write_text("".join(letter(made.run(), i) for i in (*GONE, N + 7, 5)))
    return path


def test_a_sync_leaves_nothing_in_caches_and_dead_letters(tmp_path: Path) -> None:
    moved = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    refused, folder = letters(moved), bought(moved)
    moved.delete()
    done = moved.sync()
    assert done.vanished == len(GONE)
    assert files_with(refused.parent, *TEXTS) == []
    assert [str(N + 7) in refused.read_text(), '"id": 5,' in refused.read_text()] == [False, True]
    assert files_with(folder, *(moved.new[i].tobytes() for i in GONE)) == []
    assert files_with(folder, moved.new[5].tobytes())


@pytest.mark.parametrize("store", ["faiss", "qdrant"])
def test_killed_at_any_step_the_same_command_completes(store: str, tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.mkdir()
    target = f"faiss:{place}/new.faiss" if store == "faiss" else f"qdrant:{place}/storage/new"
    moved = moved_to(target, place)
    letters(moved)
    bought(moved)
    moved.delete()
    pristine = Path(shutil.copytree(place, tmp_path / "pristine"))
    argv = ["forget", *map(str, GONE), "--in", str(place), "--state", str(moved.state)]
    landed = 0
    with stepper(forgets=True) as killer:
        for step in range(1, 2000, 37):
            shutil.rmtree(place)
            shutil.copytree(pristine, place)
            code = killer.run(step, argv)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            landed += 1
            moved.forget()
            assert files_with(place, *TEXTS) == [], step
            assert files_with(place, moved.new[GONE[0]].tobytes()) == [], step
            done = moved.sync()
            assert (done.wrote, done.adopted) == (0, 0), step
    assert landed >= 5


def test_natively_written_points_go_too(tmp_path: Path) -> None:
    moved = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    with editing(moved.target) as target, open_source(moved.source) as source:
        found = source.fetch([GONE[0]])
        target.upsert(replace(found, vectors=moved.new[[N + 1]]))
    moved.sync(shared_target=True)
    moved.delete()
    moved.forget()
    assert files_with(tmp_path, *TEXTS) == []
    assert not ids_of(moved.target) & set(GONE)


def test_after_a_cutover_what_was_brought_back_is_not_known_any_more(tmp_path: Path) -> None:
    moved = moved_to(f"faiss:{tmp_path}/new.faiss", tmp_path)
    with open_records(moved.state) as records:
        cut_over(f"faiss:{tmp_path}/live.faiss", moved.source, records, unverified=True)
        cut_over(f"faiss:{tmp_path}/live.faiss", moved.target, records, unverified=True)
    gone = N + 3
    told = "unmistakable-arrival"
    with editing(moved.target) as target:
        fields = [{"text": told, "n": gone}]
        target.upsert(VectorBatch(id_array([gone]), moved.new[[gone]], fields))
    sync_back(moved.target, moved.source, moved.state, keep_anchors=moved.anchors)
    assert gone in ids_of(moved.source)
    with editing(moved.target) as target:
        target.delete(id_array([gone]))
    sync_back(moved.target, moved.source, moved.state, keep_anchors=moved.anchors)
    assert gone not in ids_of(moved.source)
    receipt = moved.forget(gone)
    assert receipt.still_at_source == ()
    assert files_with(tmp_path, told) == []
