"""What a Parquet column holds is one thing, whichever store it is read from and moved to."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.files_cases import identity, lists, unit_vectors

from vecmigrate import migrate, open_source, save_translator
from vecmigrate.state.ledger import ledger_path
from vecmigrate.sync import SyncResult, sync
from vecmigrate.verification import CheckResult, VerifyOptions, verify

COUNT, DIM = 300, 16
STORES = ["parquet", "npy", "faiss", "lancedb"]
START = datetime.datetime(2026, 1, 2, 3, 4, 5)


def columns() -> dict[str, Any]:
    """Columns of a payload; no field that a point lacks, which stores tell in two ways."""
    times = [START + datetime.timedelta(hours=n, microseconds=n * 500) for n in range(COUNT)]
    return {
        "at": pa.array(times, pa.timestamp("us")),
        "millis": pa.array(times).cast(pa.timestamp("ms"), safe=False),
        "zoned": pa.array(times, pa.timestamp("ns", "Europe/Berlin")),
        "utc": pa.array(times, pa.timestamp("us", "UTC")),
        "day": pa.array([t.date() for t in times]),
        "clock": pa.array([t.time() for t in times]),
        "price": pa.array([decimal.Decimal(n) / 4 for n in range(COUNT)]).cast(pa.decimal128(9, 2)),
        "score": pa.array([[math.nan, math.inf, 0.5][n % 3] for n in range(COUNT)]),
        "half": pa.array(np.linspace(0, 1, COUNT).astype(np.float16)),
        "big": pa.array([2**64 - 1 - n for n in range(COUNT)], pa.uint64()),
        "kind": pa.array(["odd" if n % 2 else "even" for n in range(COUNT)]).dictionary_encode(),
        "events": pa.array([[{"at": t, "what": "x"}] for t in times]),
        "text": pa.array([f"the text of {n}, é" for n in range(COUNT)]),
    }


def payload(row: int) -> dict[str, Any]:
    """What these columns are in a payload, by Python's own spelling."""
    found = {name: column.slice(row, 1) for name, column in columns().items()}
    berlin = found["zoned"].cast(pa.timestamp("us", "Europe/Berlin"))
    time = found["at"].to_pylist()[0]
    return {
        "at": time.isoformat(),
        "millis": found["millis"].to_pylist()[0].isoformat(),
        "zoned": berlin.to_pylist()[0].isoformat(),
        "utc": found["utc"].to_pylist()[0].isoformat(),
        "day": time.date().isoformat(),
        "clock": time.time().isoformat(),
        "price": str(found["price"].to_pylist()[0]),
        "score": [math.nan, math.inf, 0.5][row % 3],
        "half": float(found["half"].to_pylist()[0]),
        "big": 2**64 - 1 - row,
        "kind": "odd" if row % 2 else "even",
        "events": [{"at": time.isoformat(), "what": "x"}],
        "text": f"the text of {row}, é",
    }


def make(store: str, folder: Path) -> str:
    """Lay the columns beside vectors, as a user of the store has them; return the URI."""
    vectors = unit_vectors(COUNT, DIM)
    table = pa.table({"id": pa.array(range(COUNT)), **columns()})
    if store == "lancedb":
        table = table.append_column("vector", lists(vectors))
        import lancedb

        lancedb.connect(folder / "db").create_table("old", table)
        return f"lancedb:{folder}/db/old"
    if store == "parquet":
        pq.write_table(table.append_column("vector", lists(vectors)), folder / "old.parquet")
        return f"parquet:{folder}/old.parquet"
    if store == "npy":
        np.save(folder / "old.npy", vectors)
        pq.write_table(table.drop_columns("id"), folder / "payload.parquet")
        return f"npy:{folder}/old.npy?payload={folder}/payload.parquet"
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    faiss.write_index(index, f"{folder}/old.faiss")
    pq.write_table(table, folder / "old.parquet", row_group_size=70)
    return f"faiss:{folder}/old.faiss"


def payloads(uri: str) -> dict[Any, str]:
    """Each point's payload as text, since no NaN is another."""
    with open_source(uri) as source:
        return {
            point_id: str(sorted(dict(p).items()))
            for batch in source.batches(64)
            for point_id, p in zip(batch.ids.tolist(), batch.each_payload(), strict=True)
        }


@pytest.mark.parametrize("store", STORES)
def test_a_column_is_the_same_payload_from_every_store(tmp_path: Path, store: str) -> None:
    found = payloads(make(store, tmp_path))
    assert found == {row: str(sorted(payload(row).items())) for row in range(COUNT)}


@pytest.mark.parametrize("target", ["faiss:{}/new.faiss", "parquet:{}/new", "lancedb:{}/new/t"])
@pytest.mark.parametrize("store", STORES)
def test_it_stays_the_same_in_every_target(tmp_path: Path, store: str, target: str) -> None:
    source, target = make(store, tmp_path), target.format(tmp_path)
    migrate(source, target, identity())
    assert payloads(target) == payloads(source)


OLD_SPELLING = {
    "at": pa.timestamp("us"),
    "zoned": pa.timestamp("ns", "Europe/Berlin"),
    "utc": pa.timestamp("us", "UTC"),
    "clock": pa.time64("us"),
    "events": pa.list_(pa.struct([("at", pa.string()), ("what", pa.string())])),
}


def as_older_versions_read(row: int) -> dict[str, Any]:
    """Times as Arrow spells them, as ``parquet:`` had them, and null for NaN, as FAISS had it."""
    given = columns()
    old = {n: given[n].slice(row, 1).cast(pa.string())[0].as_py() for n in list(OLD_SPELLING)[:4]}
    old["events"] = given["events"].slice(row, 1).cast(OLD_SPELLING["events"])[0].as_py()
    score = payload(row)["score"]
    return {**payload(row), **old, "score": None if math.isnan(score) else score}


def test_a_target_of_an_older_version_is_the_same_and_is_not_written_again(tmp_path: Path) -> None:
    source, target = make("faiss", tmp_path), f"faiss:{tmp_path}/new.faiss"
    translator, state = tmp_path / "t.safetensors", tmp_path / "state.sqlite"
    save_translator(identity(), translator)
    # The same points, read as the older version read them.
    (tmp_path / "old.parquet").rename(tmp_path / "aside")
    with (tmp_path / "old.jsonl").open("w") as file:
        for row in range(COUNT):
            file.write(json.dumps({"id": row, **as_older_versions_read(row)}) + "\n")

    def run(**options: Any) -> tuple[SyncResult, list[str]]:
        said: list[str] = []
        done = sync(source, target, translator, state, announce=said.append, **options)
        return done, said

    migrate(source, target, translator, state=state)
    run()
    assert run()[0].wrote == 0
    held = payloads(target)
    assert "2026-01-02 03:04:05.000000" in held[0]
    assert "+0100" in held[0]
    with closing(sqlite3.connect(ledger_path(state, target))) as ledger, ledger:
        assert ledger.execute("DELETE FROM facts WHERE name = 'rule'").rowcount == 1
    (tmp_path / "old.jsonl").unlink()
    (tmp_path / "aside").rename(tmp_path / "old.parquet")
    assert payloads(source) != held

    checks = verify(source, target, translator, VerifyOptions(full=True)).checks
    assert {c.name: c.outcome for c in checks}["payloads"] is CheckResult.PASSED
    asked, said = run(dry_run=True)
    assert (asked.changed, len(said)) == (COUNT, 1)
    done, said = run()
    assert (done.wrote, done.adopted, len(said)) == (0, COUNT, 1)
    assert payloads(target) == held
    done, said = run()
    assert (done.wrote, done.adopted, said) == (0, 0, [])

    # A change of the time itself is one.
    table = pq.read_table(tmp_path / "old.parquet")
    moved = [START, *table["at"].to_pylist()[1:]]
    moved[7] += datetime.timedelta(microseconds=1)
    at = table.schema.get_field_index("at")
    pq.write_table(table.set_column(at, "at", pa.array(moved)), tmp_path / "old.parquet")
    checks = verify(source, target, translator, VerifyOptions(full=True)).checks
    assert {c.name: c.outcome for c in checks}["payloads"] is CheckResult.FAILED
    assert run()[0].changed == 1
    assert payloads(target)[7] == payloads(source)[7]
