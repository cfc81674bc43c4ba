"""Arrow columns: one rule of what a value is in a payload, and nothing lost on the way back."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecmigrate.connector import VectorBatch, arrow, id_array
from vecmigrate.errors import InputError, MismatchError

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 250000)
UID = uuid.UUID(int=5)
BERLIN = "Europe/Berlin"
COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "microseconds": (
        pa.array([MOMENT, MOMENT.replace(microsecond=0), None], pa.timestamp("us")),
        ["2026-01-02T03:04:05.250000", "2026-01-02T03:04:05", None],
    ),
    "milliseconds": (pa.array([MOMENT], pa.timestamp("ms")), ["2026-01-02T03:04:05.250000"]),
    "seconds": (pa.array([MOMENT], pa.timestamp("s")), ["2026-01-02T03:04:05"]),
    "nanoseconds": (
        pa.array([1_767_323_045_250_000_000, 1_767_323_045_000_000_120], pa.timestamp("ns")),
        ["2026-01-02T03:04:05.250000", "2026-01-02T03:04:05.000000120"],
    ),
    "in UTC": (
        pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
        ["2026-01-02T03:04:05.250000+00:00", None],
    ),
    "in a zone": (
        pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("ns", BERLIN)),
        ["2026-01-02T04:04:05+01:00"],
    ),
    "west of Greenwich": (
        pa.array([MOMENT], pa.timestamp("us", "-05:30")),
        ["2026-01-01T21:34:05.250000-05:30"],
    ),
    "dates": (pa.array([MOMENT.date(), None]), ["2026-01-02", None]),
    "dates in milliseconds": (pa.array([MOMENT.date()], pa.date64()), ["2026-01-02"]),
    "times": (
        pa.array([MOMENT.time(), datetime.time(3, 4, 5)], pa.time64("us")),
        ["03:04:05.250000", "03:04:05"],
    ),
    "times in milliseconds": (pa.array([MOMENT.time()], pa.time32("ms")), ["03:04:05.250000"]),
    "decimals": (
        pa.array([decimal.Decimal("12.50"), decimal.Decimal("-0.01")], pa.decimal128(8, 2)),
        ["12.50", "-0.01"],
    ),
    "small decimals": (
        pa.array([decimal.Decimal("0.0000000001")], pa.decimal128(20, 10)),
        [str(decimal.Decimal("0.0000000001"))],
    ),
    "UUIDs": (pa.array([UID.bytes, None], pa.uuid()), [str(UID), None]),
    "float16": (pa.array(np.array([0.1, 2], np.float16)), [float(np.float16(0.1)), 2.0]),
    "float32": (pa.array([0.1], pa.float32()), [float(np.float32(0.1))]),
    "beyond int64": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    "long text": (pa.array(["é 🙂"], pa.large_string()), ["é 🙂"]),
    "lists": (pa.array([["a", None], [], None]), [["a", None], [], None]),
    "structs": (
        pa.array([{"at": MOMENT, "days": [MOMENT.date(), None]}]),
        [{"at": "2026-01-02T03:04:05.250000", "days": ["2026-01-02", None]}],
    ),
    "milliseconds within": (
        pa.array([[{"at": MOMENT}]], pa.list_(pa.struct([("at", pa.timestamp("ms", BERLIN))]))),
        [[{"at": "2026-01-02T04:04:05.250000+01:00"}]],
    ),
    "nothing": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_becomes_json_and_comes_back_as_it_was(name: str) -> None:
    column, expected = COLUMNS[name]
    assert arrow.json_values(column) == expected
    assert arrow.json_values(pa.chunked_array([column, column])) == expected * 2
    fields = [pa.field("x", column.type)]
    payloads = arrow.PayloadReader(fields).read(pa.record_batch([column], ["x"]))
    assert payloads == [{} if value is None else {"x": value} for value in expected]
    made = arrow.PayloadWriter(fields).columns(payloads, np.arange(len(column)))
    assert made["x"].equals(column)
    assert made[arrow.REST].null_count == len(column)


def test_values_of_dictionaries_and_uuids_within_others_are_read_too() -> None:
    """These Arrow does not make of Python's values."""
    kinds = pa.array(["red", None, "red"]).dictionary_encode()
    assert arrow.json_values(kinds) == ["red", None, "red"]
    uids = pa.array([UID.bytes, None], pa.uuid())
    lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), uids)
    assert arrow.json_values(lists) == [[str(UID), None]]
    moments = pa.array([MOMENT, MOMENT]).dictionary_encode()
    assert arrow.json_values(moments) == ["2026-01-02T03:04:05.250000"] * 2


moments = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.none() | moments, min_size=1),
    st.sampled_from(["ms", "us", "ns"]),
    st.sampled_from([None, "UTC", "+00:00", "-05:30"]),
    st.integers(0, 6),
)
def test_times_are_spelled_as_python_spells_them(
    given: list[datetime.datetime | None], unit: str, zone: str | None, digits: int
) -> None:
    step = 10 ** max(digits, 3 if unit == "ms" else 0)
    rounded = [
        None if m is None else m.replace(microsecond=m.microsecond // step * step) for m in given
    ]
    column = pa.array(rounded, pa.timestamp("us", zone)).cast(pa.timestamp(unit, zone))
    expected = [None if m is None else m.isoformat() for m in column.to_pylist()]
    assert arrow.json_values(column) == expected
    nested = pa.array([[m] for m in rounded], pa.list_(pa.timestamp("us", zone)))
    assert arrow.json_values(nested) == [[m] for m in expected]


@pytest.mark.parametrize("type_", [pa.float16(), pa.float32(), pa.float64()])
def test_what_is_no_finite_number_stays_what_it_is(type_: Any) -> None:
    numbers = [math.nan, math.inf, -math.inf, 1.5, None]
    column = pa.array(np.array(numbers[:4], np.float64)).cast(type_)
    fields = [pa.field("x", type_)]
    payloads = arrow.PayloadReader(fields).read(pa.record_batch([column], ["x"]))
    assert str(payloads) == str([{"x": number} for number in numbers[:4]])
    made = arrow.PayloadWriter(fields).columns(payloads, np.arange(4))
    assert str(made["x"].to_pylist()) == str(numbers[:4])


@pytest.mark.parametrize(
    "type_",
    [
        pa.binary(),
        pa.binary(4),
        pa.duration("us"),
        pa.month_day_nano_interval(),
        pa.map_(pa.string(), pa.int64()),
        pa.list_(pa.binary()),
        pa.struct([("inner", pa.large_binary())]),
    ],
)
def test_what_json_lacks_is_left_out_by_name(type_: Any) -> None:
    reader = arrow.PayloadReader([pa.field("odd", type_), pa.field("n", pa.int64())])
    assert reader.fields == ("n",)
    assert reader.left_out == (f"odd ({type_})",)
    with pytest.raises(ValueError, match=r"."):
        arrow.json_values(pa.nulls(1, type_))


def test_nulls_are_fields_that_are_not_there_or_null_as_asked() -> None:
    rows = pa.table({"a": [1, None], "b": pa.nulls(2)})
    assert arrow.PayloadReader(rows.schema).read(rows) == [{"a": 1}, {}]
    kept = arrow.PayloadReader(rows.schema, nulls=True).read(rows)
    assert kept == [{"a": 1, "b": None}, {"a": None, "b": None}]


ODD: list[dict[str, Any]] = [
    {"n": 1, "x": 1.0, "s": "a", "at": "2026-01-02T03:04:05.250000"},
    {"n": 2**70, "x": 2, "s": None, "at": "2026-01-02 03:04:05.250000"},
    {"n": 2**31, "x": float(2**60), "s": "\ud800 alone", "at": "2026-01-02T03:04:05.25"},
    {"n": True, "x": math.nan, "s": ["a"], "at": "yesterday", "more": {"deep": [None, 2**64]}},
    {"n": -(2**31), "x": "1", "s": "", "at": 5, "more": None},
    {},
]


def test_what_does_not_fit_its_column_is_kept_as_json() -> None:
    fields = [
        pa.field("n", pa.int32()),
        pa.field("x", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("at", pa.timestamp("us")),
    ]
    made = arrow.PayloadWriter(fields).columns(ODD, np.arange(len(ODD)))
    assert made["n"].to_pylist() == [1, None, None, None, -(2**31), None]
    rows = pa.table(made)
    found = arrow.PayloadReader(rows.schema, rest=arrow.REST).read(rows)
    assert str([dict(sorted(p.items())) for p in found]) == str(
        [dict(sorted(p.items())) for p in ODD]
    )


def test_a_payload_that_is_not_json_names_its_point() -> None:
    with pytest.raises(MismatchError, match="7"):
        arrow.PayloadWriter([]).columns([{}, {"x": object()}], np.array([3, 7]))


def test_columns_are_inferred_where_all_values_are_of_one_plain_type() -> None:
    payloads = [{"a": 1, "b": 1, "c": "x", "\ud800": 1, "d": None}, {"a": 2, "b": 1.0, "e": [1]}]
    found = {field.name: field.type for field in arrow.infer_fields(payloads)}
    assert found == {"a": pa.int64(), "c": pa.string()}


IDS: dict[str, tuple[list[Any], Any, Any]] = {
    "integers": ([5, 2**62], None, pa.int64()),
    "beyond int64": ([5, 2**64 - 1], None, pa.uint64()),
    "narrow": ([5, 7], pa.int32(), pa.int32()),
    "text": (["a", "é"], None, pa.string()),
    "UUIDs": ([str(UID), str(uuid.UUID(int=7))], pa.uuid(), pa.uuid()),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_come_back(kind: str) -> None:
    ids, asked, made = IDS[kind]
    column = arrow.id_column(id_array(ids), asked, "here")
    assert column.type == made
    assert arrow.is_id(made)
    found = arrow.ids_of(arrow.plain_ids(column, str))
    assert found.tolist() == ids
    assert found.dtype == id_array(ids).dtype


@pytest.mark.parametrize(
    ("ids", "type_", "strange"),
    [
        ([1, "a"], None, "a"),
        (["a", 1], None, "1"),
        ([1, 2**40], pa.int32(), str(2**40)),
        (["a", "\ud800"], None, "\ud800"),
        ([str(UID), str(UID).upper().replace("0000", "000A", 1)], pa.uuid(), "000A"),
        ([2**63], pa.int64(), str(2**63)),
    ],
)
def test_an_id_that_a_column_cannot_hold_is_named(ids: list[Any], type_: Any, strange: str) -> None:
    with pytest.raises(MismatchError) as refused:
        arrow.id_column(id_array(ids), type_, "here")
    assert strange in str(refused.value)


@pytest.mark.parametrize("column", [pa.array([1, None]), pa.array([3, -1]), pa.array(["a", None])])
def test_a_row_without_an_id_is_named(column: Any) -> None:
    with pytest.raises(InputError, match="row 1"):
        arrow.plain_ids(column, lambda at: f"row {at}")


@pytest.mark.parametrize("type_", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("size", [-1, 4])
def test_vectors_come_back(type_: Any, size: int) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    column = pa.array(vectors.tolist(), pa.list_(type_, size))
    for part, expected in ((column, vectors), (column.slice(1, 2), vectors[1:])):
        found = arrow.vectors_in(part, np.arange(len(part)), 4, str)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)


def test_float32_is_not_copied() -> None:
    vectors = np.random.default_rng(0).random((100, 8), np.float32)
    column = arrow.vector_column(vectors)
    assert np.shares_memory(arrow.vectors_in(column, np.arange(100), 8, str), vectors)


@pytest.mark.parametrize("second", [None, [1.0], [1.0, None]])
def test_a_row_without_a_whole_vector_is_named(second: Any) -> None:
    column = pa.array([[1.0, 2.0], second], pa.list_(pa.float32()))
    with pytest.raises(InputError, match=r"row 1 .*id 9"):
        arrow.vectors_in(column, np.array([8, 9]), 2, lambda at: f"row {at}")


def test_rows_are_written_whole() -> None:
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("kind", pa.dictionary(pa.int32(), pa.string())),
            ("embedding", pa.list_(pa.float32(), 2)),
            ("more", pa.string()),
        ]
    )
    writer = arrow.RowWriter(
        schema, id_name="key", vector_name="embedding", rest="more", what="here"
    )
    payloads = [{"kind": "red", "key": 5}, {}]
    batch = VectorBatch(id_array(["a", "b"]), np.eye(2, dtype=np.float32), payloads)
    rows = pa.Table.from_batches([writer.rows(batch)]).cast(schema)
    assert rows.to_pylist() == [
        {"key": "a", "kind": "red", "embedding": [1, 0], "more": '{"key": 5}'},
        {"key": "b", "kind": None, "embedding": [0, 1], "more": None},
    ]
    with pytest.raises(MismatchError):
        writer.rows(VectorBatch(id_array(["a"]), np.ones((1, 3), np.float32)))


def test_settings_of_columns_are_read_back_or_refused() -> None:
    fields = [pa.field("a", pa.timestamp("ms", BERLIN)), pa.field("b", pa.uuid())]
    packed = arrow.ColumnSettings.packed(fields)
    given = arrow.ColumnSettings(id="key", columns=packed).settings()
    found = arrow.ColumnSettings.parse(given, "here")
    assert (found.id, found.vector, found.fields()) == ("key", "vector", fields)
    for wrong in ({"columns": "no base64"}, {"columns": "AAAA"}, {"id": 5}):
        with pytest.raises(MismatchError):
            arrow.ColumnSettings.parse(wrong, "here")
