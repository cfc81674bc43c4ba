"""Parquet and NumPy files arrive whole, with their columns, and are left alone."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.files_cases import (
    COUNT,
    DIM,
    as_json,
    identity,
    lists,
    own_table,
    read,
    unit_vectors,
    write,
)

from vecmigrate import migrate, open_sink, open_source
from vecmigrate.connector import IdKind, Metric, TargetSpec, VectorBatch, id_array
from vecmigrate.errors import (
    InputError,
    UsageError,
    VecmigrateError,
)


@pytest.mark.parametrize("target", ["new.parquet", "new"])
def test_a_table_comes_back_exactly_with_its_columns(tmp_path: Path, target: str) -> None:
    old = own_table()
    pq.write_table(old, tmp_path / "old.parquet", row_group_size=900)
    new_uri = f"parquet:{tmp_path}/{target}"
    result = migrate(
        f"parquet:{tmp_path}/old.parquet?id=key&metric=dot", new_uri, identity(), batch_size=700
    )
    assert result.written == COUNT
    new = pq.read_table(tmp_path / target)
    assert new["vecmigrate_payload"].null_count == COUNT
    assert new.schema.names == [*old.schema.names, "vecmigrate_payload"]
    for name in old.schema.names:
        assert new.schema.field(name).type == old.schema.field(name).type, name
        if name != "embedding":
            # By text, since no NaN is another.
            assert str(new[name].to_pylist()) == str(old[name].to_pylist()), name
    arrays = [t["embedding"].combine_chunks().flatten().to_numpy() for t in (old, new)]
    np.testing.assert_allclose(arrays[1], arrays[0], rtol=0, atol=1e-6)
    with open_source(new_uri) as source:
        described = source.describe()
    assert (described.metric, described.text_field) == (Metric.DOT, "text")
    assert described.provenance is not None
    assert str(tmp_path / "old.parquet") in described.provenance.source
    assert not list(tmp_path.glob(".*"))
    first = next(iter(tmp_path.glob(f"{target}*" + ("/*" if target == "new" else ""))))
    assert pq.ParquetFile(first).metadata.row_group(0).column(1).compression == "ZSTD"


def test_a_payload_is_json(tmp_path: Path) -> None:
    pq.write_table(own_table(8), tmp_path / "old.parquet")
    [payload, *_] = read(f"parquet:{tmp_path}/old.parquet?id=key").payloads or []
    assert payload["at"] == "2026-01-01T00:00:00"
    assert payload["zoned"] == "2026-01-01T01:00:00+01:00"
    assert payload["price"] == "0.25"
    assert payload["uid"] == str(uuid.UUID(int=0))
    assert "tags" not in payload  # a null is a field that is not there
    assert payload["where"] == {"page": 0, "name": None}


IDS: dict[str, list[Any]] = {
    "integers": [2**40 - n for n in range(COUNT)],
    "beyond int64": [2**64 - 1 - n for n in range(COUNT)],
    "uuids": [str(uuid.UUID(int=n * 7**40 % 2**128)) for n in range(COUNT)],
    "texts": [f"{'ü' * (n % 5)}/{n}" for n in range(COUNT)],
}
SHAPES: list[dict[str, Any]] = [
    {"n": 1, "x": 1.0, "s": "a", "b": True, "dotted.name": 1, "_own": 2, "": 3},
    {"n": 2**70, "x": 2, "s": None, "b": 0, "later": [1, "two", {"deep": [None]}], "vector": [1]},
    {"n": "three", "x": float(2**60), "s": "é 🙂", "id": "field", "vecmigrate_payload": "{}"},
    {"s": "\ud800 alone", "n": -(2**63), "nested": {"empty": {}, "list": []}},
    {},
]


@pytest.mark.parametrize("target", ["parquet:{}/t", "npy:{}/t.npy"])
@pytest.mark.parametrize("kind", IDS)
def test_every_id_and_payload_comes_back(tmp_path: Path, target: str, kind: str) -> None:
    payloads = [SHAPES[n % len(SHAPES)] for n in range(COUNT)]
    batch = VectorBatch(id_array(IDS[kind]), unit_vectors(), payloads)
    uri = target.format(tmp_path)
    with open_sink(uri, TargetSpec(dimension=DIM, metric=Metric.MANHATTAN)) as sink:
        for start in range(0, COUNT, 600):
            sink.write(batch.take(np.arange(start, min(start + 600, COUNT))))
        sink.finish()
    found = read(uri)
    assert found.ids.tolist() == IDS[kind]
    np.testing.assert_array_equal(found.vectors, batch.vectors)
    assert as_json(found.payloads) == as_json(payloads)
    wanted = IDS[kind][::-1][:1500]
    with open_source(uri) as source:
        fetched = source.fetch(wanted)
        assert fetched.ids.tolist() == wanted
        np.testing.assert_array_equal(fetched.vectors, batch.vectors[::-1][:1500])
        assert as_json(fetched.payloads) == as_json(payloads[::-1][:1500])
        assert [i for part in source.ids(999) for i in part.tolist()] == IDS[kind]
        assert source.describe().metric is Metric.MANHATTAN


def test_many_files_by_folders(tmp_path: Path) -> None:
    table = own_table().select(["key", "embedding", "n"])
    names = []
    for n, (start, year, lang) in enumerate([(0, "2024", "de%2FAT"), (700, "2025", "en")]):
        folder = tmp_path / "in" / f"year={year}" / f"lang={lang}"
        folder.mkdir(parents=True)
        for part in range(7):
            piece = table.slice(start + part * 100, 100)
            # A column that only some files have.
            if part == 3:
                piece = piece.append_column("extra", pa.array([n] * 100))
            pq.write_table(piece, folder / f"{part}.parquet", row_group_size=30)
            names.append(f"{part}")
        (folder / "_SUCCESS").write_text("")
        (folder / ".hidden.parquet").write_text("no Parquet")
    uri = f"parquet:{tmp_path}/in?id=key"
    with open_source(uri) as source:
        assert source.describe().count == 1400
        assert "14 files, 56 row groups" in source.describe().index_type
        batches = list(source.batches(450))
        assert [len(b) for b in batches] == [450, 450, 450, 50]
        rest = [i for b in source.batches(33, cursor=batches[1].cursor) for i in b.ids.tolist()]
    found = read(uri)
    assert found.ids.tolist() == table["key"].to_pylist()[:1400]
    assert rest == found.ids.tolist()[900:]
    assert found.payloads is not None
    assert found.payloads[0] == {"n": 0, "year": 2024, "lang": "de/AT"}
    assert found.payloads[1000] == {"n": 1000, "year": 2025, "lang": "en", "extra": 1}
    migrate(uri, f"parquet:{tmp_path}/out", identity())
    again = read(f"parquet:{tmp_path}/out")
    assert as_json(again.payloads) == as_json(found.payloads)
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert [schema.field(n).type for n in ("year", "lang")] == [pa.int64(), pa.string()]


def test_ids_as_several_files_have_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n, kind in enumerate(["string", "large_string", "dictionary<string>"]):
        ids = pa.array([f"d{n}{i}" for i in range(9)])
        column = ids.dictionary_encode() if "dictionary" in kind else ids.cast(kind)
        table = pa.table({"id": column, "vector": lists(unit_vectors(9))})
        pq.write_table(table, tmp_path / "in" / f"{n}.parquet")
    uri = f"parquet:{tmp_path}/in"
    wanted = [f"d{n}{i}" for n in range(3) for i in range(9)]
    assert read(uri, 7).ids.tolist() == wanted
    with open_source(uri) as source:
        assert source.fetch(["d24", "d01"]).ids.tolist() == ["d24", "d01"]
    numbers = pa.table({"id": range(9), "vector": lists(unit_vectors(9))})
    pq.write_table(numbers, tmp_path / "in" / "d.parquet")
    with pytest.raises(InputError, match="ids of several types: large_string, int64"):
        read(uri)


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that a step does not need, and row groups without the ids, are not decoded."""
    pq.write_table(own_table(), tmp_path / "old.parquet", row_group_size=100)
    asked: list[tuple[tuple[str, ...], int]] = []
    real = pq.ParquetFile.iter_batches

    def noted(self: Any, *sizes: Any, **how: Any) -> Any:
        asked.extend((tuple(how["columns"]), group) for group in how["row_groups"])
        return real(self, *sizes, **how)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    with open_source(f"parquet:{tmp_path}/old.parquet?id=key") as source:
        list(source.batches(1000, payloads=False))
        assert asked == [
            *((("key",), group) for group in range(25)),
            *((("key", "embedding"), group) for group in range(25)),
        ]
        asked.clear()
        source.fetch(["doc'2499", "doc'3", "doc'7"])
        assert [group for _, group in asked] == [0, 24]
        asked.clear()
        list(source.batches(1000, cursor="2450"))
        assert [group for _, group in asked] == [24]


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    """Of 40 row groups one is held, and the ids."""
    vectors = unit_vectors(40_000, 64)
    table = pa.table({"id": np.arange(40_000), "vector": lists(vectors)})
    pq.write_table(table, tmp_path / "old.parquet", row_group_size=1000)
    del table
    before = pa.total_allocated_bytes()
    with open_source(f"parquet:{tmp_path}/old.parquet") as source:
        held = [pa.total_allocated_bytes() - before for _ in source.batches(500)]
    assert len(held) == 80
    assert max(held) < vectors.nbytes / 4


ID_TYPES = {
    "int32": pa.array(range(9), pa.int32()),
    "uint64": pa.array([2**64 - 1 - n for n in range(9)], pa.uint64()),
    "string": pa.array([f"d{n}" for n in range(9)]),
    "large_string": pa.array([f"d{n}" for n in range(9)], pa.large_string()),
    "uuid": pa.array([uuid.UUID(int=n).bytes for n in range(9)], pa.uuid()),
    "dictionary": pa.array([f"d{n}" for n in range(9)]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", ID_TYPES)
def test_ids_keep_their_type(tmp_path: Path, kind: str) -> None:
    column = ID_TYPES[kind]
    tensor = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [DIM]), lists(unit_vectors(9))
    )
    table = pa.table({"name": column, "tensor": tensor, "box": [[0.5, float(n)] for n in range(9)]})
    pq.write_table(table, tmp_path / "old.parquet")
    uri = f"parquet:{tmp_path}/old.parquet?id=name&vector=tensor"
    with open_source(uri) as source:
        assert any("not translated: box" in note for note in source.describe().notes)
    migrate(uri, f"parquet:{tmp_path}/new.parquet", identity())
    new = pq.read_table(tmp_path / "new.parquet")
    assert new["name"].type == (pa.string() if kind == "dictionary" else column.type)
    assert new["name"].to_pylist() == column.to_pylist()
    assert new["box"].to_pylist() == table["box"].to_pylist()
    found = read(f"parquet:{tmp_path}/new.parquet")
    assert found.ids.tolist() == [str(i) if kind == "uuid" else i for i in column.to_pylist()]
    np.testing.assert_allclose(found.vectors, unit_vectors(9), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_vectors_of_every_kind(tmp_path: Path, kind: Any) -> None:
    vectors = unit_vectors().astype(kind)
    flat = pa.array(vectors.ravel())
    offsets = pa.array(np.arange(COUNT + 1, dtype=np.int32) * DIM)
    for name, column in {
        "fixed": lists(vectors),
        "list": pa.ListArray.from_arrays(offsets, flat),
        "large": pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), flat),
    }.items():
        # The only one, by whatever name.
        pq.write_table(pa.table({"v": column, "id": range(COUNT)}), tmp_path / f"{name}.parquet")
        found = read(f"parquet:{tmp_path}/{name}.parquet", 999)
        assert found.vectors.dtype == np.float32
        np.testing.assert_array_equal(found.vectors, vectors.astype(np.float32))
    for name, array in {"c": vectors, "f": np.asfortranarray(vectors), "be": vectors}.items():
        swapped = array.astype(array.dtype.newbyteorder(">")) if name == "be" else array
        np.save(tmp_path / f"{name}.npy", swapped)
        found = read(f"npy:{tmp_path}/{name}.npy", 999)
        assert found.ids.tolist() == list(range(COUNT))
        np.testing.assert_array_equal(found.vectors, vectors.astype(np.float32))


def test_float32_is_read_once_and_no_view_of_a_file_is_given(tmp_path: Path) -> None:
    """A view of a file that is written over would end the process that looks at it."""
    np.save(tmp_path / "v.npy", unit_vectors())
    with open_source(f"npy:{tmp_path}/v.npy") as source:
        batch = next(source.batches(100))
        assert not isinstance(batch.vectors.base, np.memmap)
        np.testing.assert_array_equal(batch.vectors, unit_vectors()[:100])


def test_rows_without_other_columns_have_no_payloads(tmp_path: Path) -> None:
    table = own_table().select(["key", "embedding"])
    pq.write_table(table, tmp_path / "v.parquet")
    with open_source(f"parquet:{tmp_path}/v.parquet?id=key") as source:
        assert all(batch.payloads is None for batch in source.batches(700))
        assert source.fetch([table["key"][0].as_py()]).payloads is None
    (tmp_path / "parts" / "lang=de").mkdir(parents=True)
    pq.write_table(table, tmp_path / "parts" / "lang=de" / "v.parquet")
    assert read(f"parquet:{tmp_path}/parts?id=key").payloads == [{"lang": "de"}] * COUNT


def test_row_numbers_are_ids_only_where_asked_for(tmp_path: Path) -> None:
    table = own_table().drop_columns(["key"])
    pq.write_table(table.slice(0, 1000), tmp_path / "a.parquet")
    pq.write_table(table.slice(1000), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no column 'id'") as refused:
        open_source(f"parquet:{tmp_path}")
    assert "text, n, embedding" in str(refused.value)
    assert "?id=row" in str(refused.value)
    with open_source(f"parquet:{tmp_path}?id=row") as source:
        assert [len(b) for b in source.ids(2000)] == [2000, 500]
        fetched = source.fetch([2000, 5])
        assert fetched.ids.tolist() == [2000, 5]
        assert [p["n"] for p in fetched.payloads or []] == [2000, 5]
        assert source.describe().id_kind is IdKind.INTEGER
        with pytest.raises(VecmigrateError, match="2500"):
            source.fetch([2500])
    migrate(f"parquet:{tmp_path}?id=row", f"parquet:{tmp_path}/new.parquet", identity())
    assert pq.read_table(tmp_path / "new.parquet", columns=["id"])["id"].to_pylist() == list(
        range(COUNT)
    )


def bad_table(**columns: Any) -> pa.Table:
    base = {"id": list(range(4)), "vector": lists(unit_vectors(4))}
    return pa.table({**base, **columns})


BAD: dict[str, tuple[pa.Table, str]] = {
    "null id": (bad_table(id=[0, 1, None, 3]), "bad.parquet row 2 has no id"),
    "negative id": (bad_table(id=[0, 1, 2, -3]), "bad.parquet row 3 has the negative id -3"),
    "id twice": (bad_table(id=[0, 7, 2, 7]), "id 7 twice: in .*bad.parquet row 1 and .* row 3"),
    "text twice": (bad_table(id=["a", "b", "a", "c"]), "id a twice: in .* row 0 and .* row 2"),
    "float ids": (bad_table(id=[0.5, 1.0, 2.0, 3.0]), "'id' holds double"),
    "null vector": (
        bad_table(vector=pa.array([[1.0], None, None, [2.0]], pa.list_(pa.float32(), 1))),
        r"bad.parquet row 1 \(id 1\) has no vector",
    ),
    "null component": (
        bad_table(vector=pa.array([[1.0], [2.0], [None], [3.0]], pa.list_(pa.float32(), 1))),
        r"row 2 \(id 2\) has a vector with a null",
    ),
    "ragged": (
        bad_table(vector=[[1.0, 2.0], [1.0, 2.0], [1.0], [1.0, 2.0]]),
        r"bad.parquet row 2 \(id 2\) has a vector of 1 components, the first row one of 2",
    ),
    "empty list": (bad_table(vector=[[], [1.0], [], [1.0]]), "row 0 has no vector"),
    "integers": (bad_table(vector=[[1]] * 4), "0 columns of vectors"),
    "two vectors": (
        pa.table({"id": [1], "a": lists(unit_vectors(1)), "b": lists(unit_vectors(1))}),
        "2 columns of vectors: a, b",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_one_error_that_names_them(tmp_path: Path, name: str) -> None:
    table, message = BAD[name]
    pq.write_table(table, tmp_path / "bad.parquet", row_group_size=2)
    with pytest.raises(InputError, match=message):
        read(f"parquet:{tmp_path}/bad.parquet", 3)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for uri, message in {
        f"parquet:{tmp_path}/none.parquet": "is not there",
        f"parquet:{tmp_path}": "folder without Parquet files",
        f"npy:{tmp_path}/none.npy": "is not there",
    }.items():
        with pytest.raises(InputError, match=message):
            open_source(uri)
    pq.write_table(own_table(1000), tmp_path / "whole.parquet", row_group_size=100)
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.parquet cannot be read"):
        open_source(f"parquet:{tmp_path}/cut.parquet?id=key")
    # A whole footer, and a page that is not.
    at = pq.read_metadata(tmp_path / "whole.parquet").row_group(5).column(3).data_page_offset
    broken = bytearray(whole)
    broken[at : at + 20] = b"\xff" * 20
    (tmp_path / "broken.parquet").write_bytes(broken)
    with (
        pytest.raises(InputError, match=r"broken.parquet cannot be read"),
        open_source(f"parquet:{tmp_path}/broken.parquet?id=key") as source,
    ):
        list(source.batches(100))
    pq.write_table(bad_table(), tmp_path / "part.parquet")
    with pytest.raises(InputError, match="has no column 'key'"):
        open_source(f"parquet:{tmp_path}/part.parquet?id=key")
    with pytest.raises(InputError, match="payload field 'body'"):
        open_source(f"parquet:{tmp_path}/whole.parquet?id=key&text=body")
    for wrong in ("metric=best", "no=1", "id=a&id=b"):
        with pytest.raises(UsageError):
            open_source(f"parquet:{tmp_path}/part.parquet?{wrong}")
    for wrong in ("parquet:s3://bucket/x", "parquet+https:x", "npy://host/x.npy"):
        with pytest.raises(UsageError):
            open_source(wrong)


def test_a_changed_byte_is_noticed_in_a_file_with_checksums(tmp_path: Path) -> None:
    """The files that vecmigrate writes have them."""
    uri = f"parquet:{tmp_path}/new.parquet"
    write(uri, VectorBatch(np.arange(COUNT), unit_vectors()))
    column = pq.read_metadata(tmp_path / "new.parquet").row_group(0).column(1)
    whole = bytearray((tmp_path / "new.parquet").read_bytes())
    whole[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    (tmp_path / "new.parquet").write_bytes(whole)
    with pytest.raises(InputError, match=r"new.parquet cannot be read: .*checksum"):
        read(uri)


def test_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    def refuse(message: str, uri: str) -> None:
        with pytest.raises(InputError, match=message):
            read(f"npy:{tmp_path}/{uri}", 10)

    np.save(tmp_path / "v.npy", unit_vectors(4))
    for name, array in {
        "object": np.array([{"a": 1}], object),
        "flat": np.ones(4),
        "integers": np.ones((4, 2), int),
        "short": np.arange(3),
        "twice": np.array([1, 2, 1, 3]),
        "negative": np.array([1, 2, -1, 3]),
        "float": np.ones(4),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    whole = (tmp_path / "v.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:200])
    (tmp_path / "text.npy").write_text("no array")
    refuse("object.npy holds an array of Python objects", "object.npy")
    refuse("flat.npy holds an array of float64 and shape", "flat.npy")
    refuse("integers.npy holds an array of int64", "integers.npy")
    refuse("cut.npy cannot be read", "cut.npy")
    refuse("text.npy cannot be read", "text.npy")
    refuse("object.npy holds an array of Python objects", f"v.npy?ids={tmp_path}/object.npy")
    refuse("holds 3 ids, and there are 4 vectors", f"v.npy?ids={tmp_path}/short.npy")
    refuse("id 1 twice: in row 0 and row 2", f"v.npy?ids={tmp_path}/twice.npy")
    refuse("negative.npy row 2 has the negative id -1", f"v.npy?ids={tmp_path}/negative.npy")
    refuse("float.npy holds an array of float64", f"v.npy?ids={tmp_path}/float.npy")
    refuse("none.npy is not there", f"v.npy?ids={tmp_path}/none.npy")
    refuse("none.jsonl is not there", f"v.npy?payload={tmp_path}/none.jsonl")
    for name, text, message in (
        ("few", '{"a": 1}\n{}\n', "few.jsonl holds 2 payloads, and there are 4 vectors"),
        ("broken", '{}\n{"a": \n{}\n{}', "broken.jsonl row 1 is not a JSON object"),
        ("list", "{}\n{}\n{}\n[]\n", "list.jsonl row 3 is not a JSON object"),
    ):
        (tmp_path / f"{name}.jsonl").write_text(text)
        refuse(message, f"v.npy?payload={tmp_path}/{name}.jsonl")
    # The mark of another program's making.
    (tmp_path / "v.npy.vecmigrate.json").write_text("{}")
    refuse("is no note of vecmigrate's", "v.npy")


def test_an_array_with_the_payloads_of_a_user(tmp_path: Path) -> None:
    vectors = unit_vectors()
    np.save(tmp_path / "v.npy", vectors)
    ids = [f"doc-{n}" for n in range(COUNT)]
    np.save(tmp_path / "ids.npy", np.array(ids))
    np.save(tmp_path / "bytes.npy", np.array(ids, "S"))
    payloads = [{"n": n, "text": f"the text of {n}"} for n in range(COUNT)]
    lines = "\r\n".join(map(json.dumps, payloads))
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    pq.write_table(pa.Table.from_pylist(payloads), tmp_path / "p.parquet", row_group_size=300)
    for id_file, payload in (("ids", "p.jsonl"), ("bytes", "p.parquet")):
        uri = f"npy:{tmp_path}/v.npy?ids={tmp_path}/{id_file}.npy&payload={tmp_path}/{payload}"
        found = read(uri, 700)
        assert found.ids.tolist() == ids
        assert as_json(found.payloads) == as_json(payloads)
        np.testing.assert_array_equal(found.vectors, vectors)
        with open_source(uri) as source:
            described = source.describe()
            assert (described.text_field, described.id_kind) == ("text", IdKind.STRING)
            assert source.texts(ids[::-7]) == [p["text"] for p in payloads[::-7]]
            [first, *rest] = source.batches(1100)
            again = [b.ids.tolist() for b in source.batches(1100, cursor=first.cursor)]
            assert again == [b.ids.tolist() for b in rest]
            assert source.fetch([ids[3], ids[3]]).ids.tolist() == [ids[3]] * 2


def test_a_change_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", unit_vectors())
    (tmp_path / "p.jsonl").write_text("{}\n" * COUNT)
    pq.write_table(bad_table(), tmp_path / "v.parquet")
    for uri, file in (
        (f"npy:{tmp_path}/v.npy?payload={tmp_path}/p.jsonl", "p.jsonl"),
        (f"parquet:{tmp_path}/v.parquet", "v.parquet"),
    ):
        with open_source(uri) as source:
            before = source.fingerprint()
            assert source.fingerprint() == before
            found = (tmp_path / file).stat()
            os.utime(tmp_path / file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
            assert source.fingerprint() != before


def test_binary_columns_are_named_and_left_out(tmp_path: Path) -> None:
    pq.write_table(bad_table(raw=[b"x"] * 4, n=[1] * 4), tmp_path / "old.parquet")
    with open_source(f"parquet:{tmp_path}/old.parquet") as source:
        notes = str(source.describe().notes)
        assert "raw (binary)" in notes
        assert "metric" in notes
    migrate(f"parquet:{tmp_path}/old.parquet", f"parquet:{tmp_path}/new", identity())
    assert pq.read_table(tmp_path / "new").schema.names == [
        "id", "vector", "n", "vecmigrate_payload",
    ]  # fmt: skip
