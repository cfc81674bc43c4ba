"""A field tells what changed; what a field does not tell is found by an overlap or all at once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.timed_points import DAY, MINUTE, OLD, ROWS, N, iso, make, millis, rest
from vecmigrate_faiss.source import FaissSource
from vecmigrate_files.parquet import late
from vecmigrate_files.parquet.source import ParquetSource

from vecmigrate import open_source
from vecmigrate.errors import UsageError
from vecmigrate.state.file import open_records
from vecmigrate.sync import status_of, sync

STORES = ["faiss", "parquet", "lancedb", "qdrant"]


@pytest.mark.parametrize("spell", [iso, float, millis])
@pytest.mark.parametrize("store", STORES)
def test_what_became_visible_late_is_found(store: str, spell: Any, tmp_path: Path) -> None:
    job = make(tmp_path, store, spell)
    first = job.compare()
    assert (first.wrote, first.found_by.full is not None) == (0, True)
    assert first.found_by.not_compared == 0
    job.put([7], job.now - 5 * MINUTE)
    job.put([8], job.now - 60 * MINUTE)
    found = job.sync()
    assert (found.changed, found.found_by.full) == (1, None)
    assert N - 10 < found.found_by.not_compared < N
    assert job.sync(overlap="2h").changed == 1
    job.check()


def test_of_so_many_runs_one_compares_all(tmp_path: Path) -> None:
    job = make(tmp_path, "qdrant")
    fulls = [job.sync(full_every=3).found_by.full is not None for _ in range(7)]
    assert fulls == [True, False, False] * 2 + [True]
    job.put([8], job.now - 60 * MINUTE)
    changed = [job.sync(full_every=3).changed for _ in range(3)]
    assert changed == [0, 0, 1]
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_a_restored_backup_is_compared_at_once(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.compare()
    place = Path(job.source.partition(":")[2])
    root = place.parent if store in ("lancedb", "qdrant") else place
    kept = tmp_path / "backup"
    beside = sorted(tmp_path.glob("old.*")) if store == "faiss" else [root]
    kept.mkdir()
    for each in beside:
        copy = shutil.copytree if each.is_dir() else shutil.copy2
        copy(each, kept / each.name)
    job.put(list(range(20)), job.now - MINUTE + 10)
    assert job.sync().changed == 20
    for each in beside:
        shutil.rmtree(each) if each.is_dir() else each.unlink()
        (kept / each.name).rename(each)
    restored = job.sync()
    assert (restored.changed, restored.found_by.full is not None) == (20, True)
    assert job.sync().found_by.full is None
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_points_that_lost_the_field_are_compared(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.compare()
    job.put([3, 4], None)
    found = job.sync()
    assert (found.changed, found.found_by.full) == (2, None)
    assert job.sync().wrote == 0
    job.check()


def test_a_field_of_another_kind_of_times_is_compared_at_once(tmp_path: Path) -> None:
    job = make(tmp_path, "qdrant", millis)
    job.compare()
    job.spell = iso
    job.put([3], job.now)
    found = job.sync()
    assert (found.changed, found.found_by.full is not None) == (1, True)
    job.put([4], job.now + 1)
    assert job.sync().changed == 1
    job.spell = millis
    job.put([3, 4], job.now + 2)
    assert job.sync().changed == 2
    job.check()


@pytest.mark.parametrize("store", STORES)
def test_a_time_in_the_future_hides_nothing(store: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    job.put([3], job.now + 900 * DAY)
    job.compare()
    job.put([4], time.time())
    found = job.sync()
    assert (found.changed, found.found_by.full) == (1, None)
    job.check()


def test_versions_are_all_compared_until_a_run_is_as_old_as_the_overlap(tmp_path: Path) -> None:
    job = make(tmp_path, spell=lambda seconds: int(seconds) % 1_000_000)
    assert job.compare().found_by.full
    job.put([8], 5)
    found = job.sync()
    assert (found.changed, found.found_by.full is not None) == (1, True)
    assert job.sync(overlap="0").found_by.full is None


def test_status_tells_how_changes_were_found(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.compare()
    job.put([8], job.now)
    job.sync()
    with open_records(job.state) as records:
        last = status_of(job.target, job.state, records).last_sync
    assert last is not None
    assert last["found_by"]["way"] == "field"
    assert last["found_by"]["not_compared"] > 0


FILES = ["faiss", "parquet", "lancedb"]


@pytest.mark.parametrize("by", ["hash", "at"])
@pytest.mark.parametrize("store", FILES)
def test_files_that_stood_still_are_not_read(store: str, by: str, tmp_path: Path) -> None:
    job = make(tmp_path, store)
    asked = {"changed_by": by}
    if by == "at":
        assert job.sync().found_by.way == "hash"
    for _ in range(3):
        found = job.sync(**asked)
        assert (found.found_by.way, found.found_by.read, found.wrote) == ("stamp", 0, 0)
        assert (found.found_by.not_compared, found.count, found.translated) == (N, N, N)
    # The source is as it was; what others deleted at the target comes back all the same.
    with job.editing(job.target) as target:
        target.delete(np.array([5]))
    found = job.sync(**asked)
    assert (found.arrived, found.found_by.way) == (1, "stamp")
    job.put([7, 8], job.now + 1)
    found = job.sync(**asked)
    assert (found.changed, found.found_by.way) == (2, "hash" if by == "hash" else "field")
    assert job.sync(**asked).found_by.way == "stamp"
    assert job.sync(full_every=1, **asked).found_by.read == N
    job.check()


def test_an_unchanged_pair_of_files_is_not_listed_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(tmp_path, "parquet")
    rest(tmp_path)
    job.compare()
    listed: list[str] = []
    for kind in (ParquetSource, FaissSource):
        ids = kind.ids
        monkeypatch.setattr(
            kind, "ids", lambda self, size, ids=ids: listed.append(type(self)) or ids(self, size)
        )
    assert job.sync().wrote == 0
    assert not listed
    assert job.sync(overwrite=True).wrote == 0
    assert listed


@pytest.mark.parametrize("store", ["faiss", "parquet"])
def test_a_file_that_was_just_written_has_no_stamp(store: str, tmp_path: Path) -> None:
    """Its time may stay the same if it is written again at once."""
    job = make(tmp_path, store)
    [path] = [path for path in tmp_path.glob(f"old.{store}") if path.is_file()]
    for ahead, stamped in ((3600, False), (-3600, True)):
        os.utime(path, (time.time() + ahead,) * 2)
        with open_source(job.source) as source:
            assert (source.stamp() is not None) is stamped


@pytest.mark.parametrize("store", ["faiss", "parquet"])
def test_a_stamp_is_of_the_file_that_was_opened(store: str, tmp_path: Path) -> None:
    """A migration notes the stamp once it has read a file that may have been replaced since."""
    job = make(tmp_path, store)
    [path] = [path for path in tmp_path.glob(f"old.{store}") if path.is_file()]
    rest(tmp_path)
    with open_source(job.source) as source:
        source.describe()
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        os.utime(other, (time.time() - 3600,) * 2)
        other.replace(path)
        found = source.stamp()
    with open_source(job.source) as source:
        assert found is not None
        assert source.stamp() not in (None, found)


def test_what_ids_alone_passed_over_is_found_by_hash(tmp_path: Path) -> None:
    job = make(tmp_path)
    job.put([7], job.now)
    assert job.sync(changed_by="ids").changed == 0
    assert job.sync(changed_by="ids").found_by.way == "stamp"
    assert job.sync(changed_by="hash").changed == 1
    job.check()


def test_a_bad_vector_is_looked_at_by_every_run(tmp_path: Path) -> None:
    job = make(tmp_path)
    with job.editing() as source:
        bad = job.points([N], {N: job.now})
        bad.vectors[0] = np.nan
        source.upsert(bad)
    for _ in range(2):
        found = job.sync(changed_by="hash", on_bad_vector="skip")
        assert (found.skipped_ids, found.found_by.way) == ((N,), "hash")


def test_what_a_sidecars_log_holds_is_a_change(tmp_path: Path) -> None:
    job = make(tmp_path, "faiss")
    sidecar = tmp_path / "s.sqlite"
    with closing(sqlite3.connect(sidecar)) as side:
        side.execute("PRAGMA journal_mode=WAL")
        side.execute("CREATE TABLE t (id INTEGER, n INTEGER)")
        side.executemany("INSERT INTO t VALUES (?, 1)", [(i,) for i in range(N)])
        side.commit()
        stamps = set()
        for n in range(3):
            side.execute("UPDATE t SET n = ? WHERE id = 3", (n,))
            side.commit()
            rest(tmp_path)
            with open_source(f"{job.source}?sidecar={sidecar}") as source:
                stamps.add(source.stamp())
        assert len(stamps - {None}) == 3


@pytest.mark.parametrize("kind", ["int", "float", "iso", "timestamp", "mixed"])
@pytest.mark.parametrize("store", ["parquet", "lancedb"])
def test_a_column_tells_what_a_full_reading_tells(
    store: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = datetime(2026, 3, 1, tzinfo=UTC)
    seconds = [base.timestamp() + 60 * i for i in range(N)]
    values: list[Any] = {
        "int": [int(s) for s in seconds],
        "float": seconds,
        "iso": [iso(s) for s in seconds],
        "timestamp": [datetime.fromtimestamp(s, UTC) for s in seconds],
        "mixed": [None if i % 50 == 3 else int(s) for i, s in enumerate(seconds)],
    }[kind]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS[:N].ravel()), OLD)
    table = pa.table({"id": list(range(N)), "vector": vectors, "at": values})
    if store == "parquet":
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
        uri = f"parquet:{tmp_path}/t.parquet"
    else:
        lancedb.connect(tmp_path).create_table("t", table)
        uri = f"lancedb:{tmp_path}/t"
    read: list[int] = []
    groups = late.in_groups

    def recorded(file: Any, size: int, chosen: range, columns: Any) -> Any:
        read.extend(chosen)
        assert columns == ["at"]
        return groups(file, size, chosen, columns)

    monkeypatch.setattr(late, "in_groups", recorded)
    for first in (0, 30, 130, N - 2, N):
        read.clear()
        since = base.timestamp() + 60 * first
        expected = [i for i in range(N) if i >= first or values[i] is None]
        with open_source(uri) as source:
            batches = source.changed_since("at", since, 16)
            assert batches is not None
            found = list(batches)
            assert [i for batch in found for i in batch.ids.tolist()] == expected
            for batch in found:
                np.testing.assert_array_equal(batch.vectors, source.fetch(batch.ids).vectors)
                assert list(batch.each_payload()) == list(source.fetch(batch.ids).each_payload())
        if store == "parquet" and kind in ("int", "timestamp"):
            assert read == list(range(first // 20, 10))


def test_a_field_of_some_rows_alone_is_found_among_the_rest(tmp_path: Path) -> None:
    """A field without a column is in the column of all other fields."""
    job = make(tmp_path, "parquet")
    with open_source(job.source) as source:
        assert "at" in source.describe().payload_fields
        whole = source.fetch(list(range(20)))
    payloads = [{"odd": i} if i % 2 else {} for i in range(20)]
    with job.editing() as updater:
        updater.upsert(whole.with_payloads(payloads))
    with open_source(job.source) as source:
        found = source.changed_since("odd", 15, 50)
        assert found is not None
        ids = [i for batch in found for i in batch.ids.tolist()]
    assert sorted(ids) == [i for i in range(N) if i >= 20 or i % 2 == 0 or i >= 15]


def test_an_overlap_is_a_duration(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sync("a:b", "a:b", tmp_path, tmp_path / "s", overlap="soon")
