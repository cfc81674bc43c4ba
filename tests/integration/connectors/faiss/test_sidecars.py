"""Texts and payloads beside a FAISS index, in JSONL, Parquet and SQLite."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.faiss.indexes import COUNT, make_index, save, sparse_ids, vectors, write_jsonl

from vecmigrate import open_sink, open_source
from vecmigrate.connector import InputError, Metric, TargetSpec, UsageError, VectorBatch

IDS = sparse_ids()
Write = Callable[[Path, list[dict[str, Any]]], Path]


def record(point_id: int, key: str = "id") -> dict[str, Any]:
    return {
        key: point_id,
        "text": f"the words of {point_id}, é 漢字",
        "tags": ["a", str(point_id)],
        "nested": {"deep": point_id / 4},
        "nothing": None,
    }


def payload(point_id: int) -> dict[str, Any]:
    return {name: value for name, value in record(point_id).items() if name != "id"}


def as_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    return write_jsonl(path.with_suffix(".jsonl"), records)


def as_parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path.with_suffix(".parquet"), row_group_size=37)
    return path.with_suffix(".parquet")


def as_sqlite(path: Path, records: list[dict[str, Any]]) -> Path:
    """Lists and objects go into columns that are declared JSON."""
    first = records[0]
    kinds = {n: "JSON" if isinstance(v, list | dict) else "" for n, v in first.items()}
    columns = ", ".join(f'"{n}" {kind}' for n, kind in kinds.items())
    rows = [[json.dumps(r[n]) if kind else r[n] for n, kind in kinds.items()] for r in records]
    with closing(sqlite3.connect(path.with_suffix(".sqlite"))) as file, file:
        file.execute(f"CREATE TABLE points ({columns})")
        file.executemany(f"INSERT INTO points VALUES ({','.join('?' * len(first))})", rows)
    return path.with_suffix(".sqlite")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return save(make_index("IDMap,Flat", ids=IDS), tmp_path / "old.faiss")


@pytest.fixture(params=[as_jsonl, as_parquet, as_sqlite])
def write(request: pytest.FixtureRequest) -> Write:
    chosen: Write = request.param
    return chosen


def read_all(uri: str, size: int = 64) -> dict[int, Any]:
    with open_source(uri) as source:
        return {
            int(i): fields
            for batch in source.batches(size)
            for i, fields in zip(batch.ids, batch.payloads or [None] * len(batch), strict=True)
        }


@pytest.mark.parametrize("order", ["aligned", "ascending", "reversed", "random"])
def test_payloads_come_with_their_points(
    tmp_path: Path, uri: str, write: Write, order: str
) -> None:
    rng = np.random.default_rng(5)
    listed = {
        "aligned": IDS,
        "ascending": np.sort(IDS),
        "reversed": IDS[::-1],
        "random": rng.permutation(IDS),
    }[order]
    write(tmp_path / "old", [record(i) for i in listed.tolist()])
    for size in (11, 64, 1000):
        assert read_all(uri, size) == {i: payload(i) for i in IDS.tolist()}
    with open_source(uri) as source:
        for _ in range(5):
            wanted = rng.choice(IDS, 20).tolist()
            assert source.fetch(wanted).payloads == [payload(i) for i in wanted]
            assert source.texts(wanted) == [payload(i)["text"] for i in wanted]


def test_several_threads_find_points_with_their_payloads(
    tmp_path: Path, uri: str, write: Write
) -> None:
    write(tmp_path / "old", [record(i) for i in np.random.default_rng(5).permutation(IDS).tolist()])
    given = vectors()
    with open_source(uri) as source:

        def ask(row: int) -> None:
            found = source.nearest(given[[row, -row]], 9)
            assert found is not None
            assert [points.ids[0] for points in found] == [IDS[row], IDS[-row]]
            for points in found:
                assert points.payloads == [payload(i) for i in points.ids.tolist()]
                rows = [int(np.flatnonzero(i == IDS)[0]) for i in points.ids]
                np.testing.assert_array_equal(points.vectors, given[rows])
            assert source.fetch(found[0].ids).payloads == found[0].payloads

        with ThreadPoolExecutor(8) as threads:
            assert len(list(threads.map(ask, range(COUNT)))) == COUNT


def test_lists_have_their_payloads(tmp_path: Path, write: Write) -> None:
    uri = save(make_index("IVF9,Flat"), tmp_path / "old.faiss")
    write(tmp_path / "old", [record(i) for i in range(COUNT)])
    assert read_all(uri) == {i: payload(i) for i in range(COUNT)}


@pytest.mark.parametrize(
    "name", ["old.jsonl", "old.parquet", "old.faiss.jsonl", "old.faiss.parquet"]
)
def test_a_sidecar_is_found_beside_the_index(tmp_path: Path, uri: str, name: str) -> None:
    write = as_jsonl if name.endswith("jsonl") else as_parquet
    write(tmp_path / "written", [record(i) for i in IDS.tolist()]).rename(tmp_path / name)
    assert read_all(uri)[int(IDS[4])] == payload(int(IDS[4]))


def test_two_sidecars_are_one_too_many(tmp_path: Path, uri: str) -> None:
    records = [record(i) for i in IDS.tolist()]
    named = as_jsonl(tmp_path / "old", records)
    as_parquet(tmp_path / "old", records)
    with pytest.raises(UsageError, match=r"old\.jsonl, .*old\.parquet"):
        open_source(uri)
    assert read_all(f"{uri}?sidecar={named}")[int(IDS[0])] == payload(int(IDS[0]))


def test_key_and_text_can_be_named(tmp_path: Path, uri: str, write: Write) -> None:
    records = [
        {**record(i, key="doc no"), "id": "a field", "title": f"title {i}"} for i in IDS.tolist()
    ]
    path = write(tmp_path / "elsewhere", records)
    named = f"{uri}?sidecar={path}&id=doc%20no&text=title"
    with open_source(named) as source:
        description = source.describe()
        assert description.text_field == "title"
        assert set(description.payload_fields) == {
            "text", "tags", "nested", "nothing", "id", "title",
        }  # fmt: skip
        first = int(IDS[0])
        assert source.texts([first]) == [f"title {first}"]
        assert source.fetch([first]).payloads == [
            {**payload(first), "id": "a field", "title": f"title {first}"}
        ]


def test_a_text_field_that_is_not_there_is_refused(tmp_path: Path, uri: str, write: Write) -> None:
    write(tmp_path / "old", [record(i) for i in IDS.tolist()])
    with pytest.raises(UsageError, match=r"no field 'title'.*text, tags"):
        open_source(f"{uri}?text=title")


def test_points_without_a_record_have_an_empty_payload(
    tmp_path: Path, uri: str, write: Write
) -> None:
    write(tmp_path / "old", [record(int(IDS[1])), record(10**9)])
    found = read_all(uri)
    assert found.pop(int(IDS[1])) == payload(int(IDS[1]))
    assert all(fields == {} for fields in found.values())
    with open_source(uri) as source:
        assert source.texts([int(IDS[0])]) == [None]


def test_without_a_sidecar_there_are_no_payloads(uri: str) -> None:
    with open_source(uri) as source:
        assert all(batch.payloads is None for batch in source.batches(50))
        assert source.fetch([int(IDS[0])]).payloads is None
        assert source.describe().text_field is None
        with pytest.raises(InputError, match="sidecar"):
            source.texts([int(IDS[0])])


def test_payloads_are_not_read_unless_asked_for(tmp_path: Path, uri: str) -> None:
    path = write_jsonl(tmp_path / "old.jsonl", [record(i) for i in IDS.tolist()])
    path.write_text(path.read_text() + "not JSON\n")
    with open_source(uri) as source:
        assert all(batch.payloads is None for batch in source.batches(50, payloads=False))
        with pytest.raises(InputError, match=rf"old\.jsonl:{COUNT + 1} is not JSON"):
            next(source.batches(50))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 5, "text": "cut sh', ":3 is not JSON"),
        ("[1, 2]", ":3 is not a JSON object"),
        ('{"text": "no key"}', ":3 has no field 'id'"),
        ('{"id": "5"}', ":3 has in 'id' no 64-bit integer"),
        ('{"id": 5.0}', ":3 has in 'id' no 64-bit integer"),
        ('{"id": true}', ":3 has in 'id' no 64-bit integer"),
        ('{"id": null}', ":3 has in 'id' no 64-bit integer"),
        ('{"id": 18446744073709551615}', ":3 has in 'id' no 64-bit integer"),
        ("\udcff", ":3 is not JSON"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, uri: str, line: str, said: str) -> None:
    lines = [json.dumps(record(int(IDS[0]))), "", line, json.dumps(record(int(IDS[1])))]
    text = "\n".join(lines).encode(errors="surrogateescape")
    (tmp_path / "old.jsonl").write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_all(uri)
    assert f"old.jsonl{said}" in str(caught.value)


def test_blank_lines_a_byte_order_mark_and_no_last_newline_are_allowed(
    tmp_path: Path, uri: str
) -> None:
    lines = [json.dumps(record(i)) for i in IDS.tolist()]
    (tmp_path / "old.jsonl").write_bytes(
        b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\n  \n" + b' {"id" : -5}'
    )
    assert read_all(uri) == {i: payload(i) for i in IDS.tolist()}


def test_a_key_behind_other_fields_is_found(tmp_path: Path, uri: str) -> None:
    write_jsonl(
        tmp_path / "old.jsonl", [{"inner": {"id": 1}, "id": i, "x": i} for i in IDS.tolist()]
    )
    assert read_all(uri) == {i: {"inner": {"id": 1}, "x": i} for i in IDS.tolist()}


def test_an_id_with_two_records_is_refused(tmp_path: Path, uri: str, write: Write) -> None:
    write(tmp_path / "old", [record(i) for i in [*IDS.tolist(), int(IDS[7])]])
    with pytest.raises(InputError, match=f"more than one record where 'id' is {IDS[7]}"):
        read_all(uri)


def test_a_missing_or_empty_sidecar_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        open_source(f"{uri}?sidecar={tmp_path}/none.jsonl")
    (tmp_path / "old.jsonl").touch()
    with pytest.raises(InputError, match=r"old\.jsonl is empty"):
        open_source(uri)


def test_parquet_values_become_json(tmp_path: Path, uri: str) -> None:
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, 250000)
    columns = {
        "id": pa.array([int(IDS[0]), int(IDS[1])], pa.uint32() if IDS[:2].max() < 2**32 else None),
        "day": pa.array([moment.date(), None]),
        "nanoseconds": pa.array([moment, None], pa.timestamp("ns")),
        "zoned": pa.array([moment, None], pa.timestamp("us", tz="UTC")),
        "clock": pa.array([moment.time(), None]),
        "price": pa.array([decimal.Decimal("12.50"), None]),
        "score": pa.array([0.5, float("nan")]),
        "kind": pa.array(["red", "blue"]).dictionary_encode(),
        "flags": pa.array([[True], []]),
        "when": pa.array([{"days": [moment.date()]}, {"days": None}]),
        "uuid": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
    }
    pq.write_table(pa.table(columns), tmp_path / "old.parquet")
    found = read_all(uri)
    assert found[int(IDS[0])] == {
        "day": "2024-05-06",
        "nanoseconds": "2024-05-06T07:08:09.250000",
        "zoned": "2024-05-06T07:08:09.250000+00:00",
        "clock": "07:08:09.250000",
        "price": "12.50",
        "score": 0.5,
        "kind": "red",
        "flags": [True],
        "when": {"days": ["2024-05-06"]},
        "uuid": "00000000-0000-0000-0000-000000000005",
    }
    second = found[int(IDS[1])]
    assert (second["kind"], second["flags"]) == ("blue", [])
    assert second["when"] == {"days": None}
    assert {n for n, v in second.items() if v is None} == {
        "day", "nanoseconds", "zoned", "clock", "price", "uuid",
    }  # fmt: skip
    assert math.isnan(second["score"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"raw"]),
        pa.array([datetime.timedelta(1)]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([{"inner": b"raw"}]),
    ],
)
def test_parquet_columns_that_json_lacks_are_named(tmp_path: Path, uri: str, column: Any) -> None:
    pq.write_table(pa.table({"id": pa.array([1]), "odd": column}), tmp_path / "old.parquet")
    with pytest.raises(InputError, match="the column 'odd'"):
        open_source(uri)


def test_parquet_keys_must_be_integers_and_there(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "old.parquet"
    pq.write_table(pa.table({"key": [1], "text": ["a"]}), path)
    with pytest.raises(InputError, match="no column 'id'"):
        open_source(uri)
    pq.write_table(pa.table({"id": ["1"]}), path)
    with pytest.raises(InputError, match="'id' holds string"):
        open_source(uri)
    pq.write_table(pa.table({"id": pa.array([1, None])}), path)
    with pytest.raises(InputError, match="1 null"):
        read_all(uri)
    pq.write_table(pa.table({"id": pa.array([2**64 - 1], pa.uint64())}), path)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_all(uri)


def test_parquet_with_nothing_but_keys_gives_empty_payloads(tmp_path: Path, uri: str) -> None:
    pq.write_table(pa.table({"id": pa.array(IDS)}), tmp_path / "old.parquet")
    assert read_all(uri) == {i: {} for i in IDS.tolist()}


def test_parquet_cut_short_is_refused(tmp_path: Path, uri: str) -> None:
    path = as_parquet(tmp_path / "old", [record(i) for i in IDS.tolist()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_source(uri)


def test_parquet_asked_for_out_of_order_leaves_no_file_behind(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    many = np.concatenate([IDS, np.arange(2**54, 2**54 + 9000)])
    records = [record(i) for i in np.random.default_rng(2).permutation(many).tolist()]
    as_parquet(tmp_path / "old", records)
    with open_source(uri) as source:
        for point_id in IDS[:40].tolist():
            assert source.fetch([point_id]).payloads == [payload(point_id)]
        assert list(spill.iterdir()) == []


def test_ids_whose_hashes_python_gives_alike_are_told_apart(tmp_path: Path) -> None:
    """hash(0) is hash(""), and hash(-1) is hash(-2)."""
    ids = np.array([0, "", -1, -2], dtype=object)
    rows = np.eye(4, dtype=np.float32)
    spec = TargetSpec(dimension=4, metric=Metric.DOT)
    with open_sink(f"faiss:{tmp_path}/a.faiss", spec) as sink:
        sink.write(VectorBatch(ids, rows, [{"n": n} for n in range(4)]))
        sink.finish()
    with open_source(f"faiss:{tmp_path}/a.faiss") as source:
        found = source.fetch([-2, 0, "", -1])
    assert np.array_equal(found.vectors, rows[[3, 0, 1, 2]])


def test_a_table_can_be_named(tmp_path: Path, uri: str) -> None:
    path = as_sqlite(tmp_path / "old", [record(i) for i in IDS.tolist()])
    with closing(sqlite3.connect(path)) as file, file:
        file.execute('CREATE TABLE "an other" (number INTEGER PRIMARY KEY, text)')
        rows = [(i, f"other {i}") for i in IDS.tolist()]
        file.executemany('INSERT INTO "an other" VALUES (?, ?)', rows)
    with pytest.raises(UsageError, match=r"not one table.*an other, points"):
        open_source(uri)
    with pytest.raises(UsageError, match=r"no table 'none'"):
        open_source(f"{uri}?table=none")
    found = read_all(f"{uri}?table=an%20other&id=number")
    assert found == {i: {"text": f"other {i}"} for i in IDS.tolist()}
    with pytest.raises(InputError, match=r"no column 'id'.*number, text"):
        open_source(f"{uri}?table=an%20other")


def test_sqlite_that_does_not_fit_is_refused(tmp_path: Path, uri: str) -> None:
    path = as_sqlite(tmp_path / "old", [record(i) for i in IDS.tolist()])
    before = path.read_bytes()
    for change, said in (
        ("UPDATE points SET id = 'x' WHERE rowid < 3", "no integer in 2 rows"),
        ("UPDATE points SET id = 7 WHERE rowid < 3", "more than one record where 'id' is 7"),
        ("UPDATE points SET text = x'00'", "'text' holds bytes"),
        ("UPDATE points SET tags = '[' WHERE rowid = 1", "cannot be read as SQLite"),
    ):
        path.write_bytes(before)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute(change)
        with pytest.raises(InputError, match=said):
            read_all(uri)
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(InputError, match="cannot be read as SQLite"):
        read_all(uri)
    path.unlink()
    with pytest.raises(UsageError, match="no sidecar"):
        open_source(f"{uri}?table=points")


def test_sqlite_is_left_as_it_is(tmp_path: Path, uri: str) -> None:
    path = as_sqlite(tmp_path / "old", [record(i) for i in IDS.tolist()])
    path.chmod(0o444)
    before = path.read_bytes()
    assert read_all(uri) == {i: payload(i) for i in IDS.tolist()}
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.faiss", "old.sqlite"]
