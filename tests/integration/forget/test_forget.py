"""A point that is forgotten is in no place that the receipt does not name."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.forgetting import GONE, Moved, N, files_with, ids_of, letter, make, text

from vecmigrate import migrate, open_source
from vecmigrate.anchors import load_anchors
from vecmigrate.errors import LockedError, MismatchError, UsageError
from vecmigrate.forget import Receipt, forget
from vecmigrate.state.file import job_lock, open_records
from vecmigrate.state.ledger import ledger_key, ledger_path
from vecmigrate.state.migrations import MigrationTable
from vecmigrate.verification import VerifyOptions, verify

TEXTS = [text(i) for i in GONE]

STORES = ["faiss", "parquet", "lancedb", "qdrant"]
URIS = {
    "faiss": "faiss:{}/new.faiss",
    "parquet": "parquet:{}/new",
    "lancedb": "lancedb:{}/db/new",
    "qdrant": "qdrant:{}/storage/new",
}


def moved_to(store: str, folder: Path) -> Moved:
    moved = make(folder, URIS[store].format(folder))
    moved.migrate()
    return moved


def vectors_of(moved: Moved) -> list[bytes]:
    """What is known of the old and new vectors of the points, as files hold them."""
    return [array[i].tobytes() for array in (moved.old, moved.new) for i in GONE]


def kept(receipt: Receipt, folder: Path) -> list[str]:
    return [each.place for each in receipt.left]


@pytest.mark.parametrize("store", STORES)
def test_nothing_is_left_but_what_is_named(store: str, tmp_path: Path) -> None:
    moved = moved_to(store, tmp_path)
    before = files_with(tmp_path, *TEXTS)
    assert any("new" in name or "storage" in name for name in before)
    moved.delete()
    receipt = moved.forget()
    left = files_with(tmp_path, *TEXTS)
    if store == "lancedb":
        assert any("versions of" in place for place in kept(receipt, tmp_path))
        assert all(name.startswith("db/") for name in left)
    else:
        assert left == []
    assert ids_of(moved.target) == set(range(N)) - set(GONE)
    assert receipt.found_nowhere == ()
    by_kind = {each.what: each.points for each in receipt.removed}
    assert (by_kind["points"], by_kind["hashes and origins"], by_kind["anchors"]) == (2, 2, 1)
    # The translator was built on the anchor, and cannot be without it.
    assert any(str(moved.translator) in place for place in kept(receipt, tmp_path))
    [anchor] = files_with(tmp_path, moved.old[GONE[0]].tobytes())
    assert anchor == moved.translator.name


def test_a_translator_of_any_name_is_looked_into(tmp_path: Path) -> None:
    moved = make(tmp_path, f"faiss:{tmp_path}/new.faiss")
    named = moved.translator.rename(tmp_path / "k.st")
    migrate(moved.source, moved.target, named, keep_anchors=moved.anchors, state=moved.state)
    moved.delete()
    assert any("k.st" in place for place in kept(moved.forget(), tmp_path))


@pytest.mark.parametrize("store", STORES)
def test_sync_and_verify_go_on_as_before(store: str, tmp_path: Path) -> None:
    moved = moved_to(store, tmp_path)
    moved.delete()
    moved.forget()
    done = moved.sync()
    assert (done.wrote, done.adopted, done.left_alone) == (0, 0, 0)
    asked = VerifyOptions(full=True, keep_anchors=moved.anchors)
    found = verify(moved.source, moved.target, moved.translator, asked, state=moved.state)
    assert found.passed, found.failures


def test_once_more_finds_nothing(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    moved.delete()
    moved.forget()
    again = moved.forget()
    assert set(again.found_nowhere) == set(GONE)
    assert again.removed == ()


def test_a_point_that_the_source_has_is_refused_by_name(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    moved.delete(GONE[0])
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(MismatchError, match=str(GONE[1])):
        moved.forget()
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    receipt = moved.forget(still_at_source=True)
    assert receipt.still_at_source == (GONE[1],)
    assert moved.source in kept(receipt, tmp_path)
    assert not ids_of(moved.target) & set(GONE)
    assert moved.sync().arrived == 1  # as the refusal says


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    moved.delete()
    before = files_with(tmp_path, *TEXTS)
    planned = moved.forget(dry_run=True)
    assert files_with(tmp_path, *TEXTS) == before
    done = moved.forget()
    assert planned.removed == done.removed


def test_a_mover_at_work_keeps_it_out(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    moved.delete()
    with (
        job_lock(moved.state.parent / "locks", ledger_key(moved.target), "another"),
        pytest.raises(LockedError),
    ):
        moved.forget()
    assert GONE[0] in ids_of(moved.target)


def test_freed_pages_are_overwritten(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    path = ledger_path(moved.state, moved.target)
    with closing(sqlite3.connect(path)) as ledger:
        rows = ledger.execute(
            "SELECT vector, payload FROM points WHERE id IN (?, ?)", GONE
        ).fetchall()
    hashes = [value.to_bytes(8, "big", signed=True) for row in rows for value in row]
    assert files_with(moved.state.parent, *hashes)
    # As an earlier sync left it: deleted, its bytes still there.
    moved.delete(GONE[1])
    moved.sync()
    moved.delete(GONE[0])
    moved.forget()
    assert files_with(moved.state.parent, *hashes) == []


def test_targets_of_several_sources_are_to_be_named(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other", f"faiss:{tmp_path}/other/new.faiss")
    other = Moved(tmp_path, other.source, other.target, other.old, other.new)
    other.migrate()
    moved.delete()
    with pytest.raises(UsageError, match="sources"):
        moved.forget()
    receipt = moved.forget(targets=[moved.target])
    assert not ids_of(moved.target) & set(GONE)
    # Their points under these ids are others, and so are their anchors.
    assert ids_of(other.target) >= set(GONE)
    assert len(load_anchors(tmp_path / "other" / "a.parquet")) == 60
    assert any("other/a.parquet" in place for place in kept(receipt, tmp_path))
    with open_records(moved.state) as records:
        assert len(MigrationTable(records).all()) == 2


def test_dead_letters_go(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    with open_source(moved.target) as target:
        made = target.describe().provenance
    assert made is not None
    with open_records(moved.state) as records:
        [(key, _)] = MigrationTable(records).all()
    beside = moved.state.parent / "dead-letters" / f"{key}.jsonl"
    beside.parent.mkdir()
    named = tmp_path / "refused.jsonl"
    for path in (beside, named):
        path.write_text(letter(made.run(), GONE[0]) + letter(made.run(), 5))
    unknown = tmp_path / "another.jsonl"
    unknown.write_text(letter("another", GONE[0]) + letter("another", 5))
    moved.delete()
    receipt = moved.forget()
    # Whose point that is, is not known, until somebody says so.
    assert any(str(unknown) in place for place in kept(receipt, tmp_path))
    assert files_with(tmp_path, *TEXTS) == [unknown.name]
    moved.forget(folders=[unknown])
    for path in (beside, named, unknown):
        assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [5]


def test_no_target_and_no_folder_is_no_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        forget([1], tmp_path / "state.sqlite")


def test_many_ids_at_once(tmp_path: Path) -> None:
    moved = moved_to("faiss", tmp_path)
    moved.delete(*range(200))
    receipt = moved.forget(*range(200), *range(N, N + 500))
    assert receipt.found_nowhere == tuple(range(N, N + 500))
    assert ids_of(moved.target) == set(range(200, N))
    assert np.array_equal(load_anchors(moved.anchors).ids, [])
