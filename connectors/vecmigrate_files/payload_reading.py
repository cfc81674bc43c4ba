"""Payloads out of Arrow columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from vecmigrate_files.ids import is_uuid

REST = "vecmigrate_payload"
"""The column, of files that vecmigrate wrote, with what has no column of its own, as JSON."""


class PayloadReader:
    """Makes payloads of columns; a null is a field that the point does not have.

    Parameters
    ----------
    fields
        Arrow fields of the columns that are payload.
    rest
        True where there is a column :data:`REST` of vecmigrate's.

    Attributes
    ----------
    fields : tuple of str
        Names of the columns read, :data:`REST` not among them.
    left_out : tuple of str
        Columns that no payload can hold, each with its type.
    columns : list of str
        All that :meth:`read` needs.
    """

    def __init__(self, fields: Iterable[Any], *, rest: bool) -> None:
        others = [field for field in fields if not (rest and field.name == REST)]
        types = {field.name: json_type(field.type) for field in others}
        self._types = {name: type_ for name, type_ in types.items() if type_ is not None}
        self._rest = rest
        self.fields = tuple(self._types)
        self.left_out = tuple(f"{f.name} ({f.type})" for f in others if types[f.name] is None)
        self.columns = [*self.fields, *([REST] if rest else [])]

    def read(self, rows: Any) -> list[dict[str, Any]]:
        """Return a payload for each row of an Arrow record batch."""
        payloads: list[dict[str, Any]] = [{} for _ in range(rows.num_rows)]
        there = set(rows.schema.names)
        for name in self._types:
            if name not in there:
                continue
            for payload, value in zip(payloads, _values(rows.column(name)), strict=True):
                if value is not None:
                    payload[name] = value
        if self._rest and REST in there:
            for payload, text in zip(payloads, rows.column(REST).to_pylist(), strict=True):
                if text is not None:
                    payload.update(json.loads(text))
        return payloads


def _values(column: Any) -> list[Any]:
    if is_uuid(column.type):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    type_ = json_type(column.type)
    if type_ is None:  # in one file of several
        raise ValueError(f"a column of another type elsewhere holds {column.type}")
    values: list[Any] = (column if column.type == type_ else column.cast(type_)).to_pylist()
    return values


def json_type(type_: Any) -> Any | None:
    """Return the type to cast to so that Python's values are JSON's; None where there is none."""
    t = pa.types
    if is_uuid(type_):
        return pa.string()
    if isinstance(type_, pa.BaseExtensionType):
        return json_type(type_.storage_type)
    if t.is_dictionary(type_):
        return json_type(type_.value_type)
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        value = json_type(type_.value_type)
        return None if value is None else _list_like(type_, value)
    if t.is_struct(type_):
        fields = [(field.name, json_type(field.type)) for field in type_]
        return None if any(made is None for _, made in fields) else pa.struct(fields)
    if t.is_date(type_) or t.is_time(type_) or t.is_timestamp(type_) or t.is_decimal(type_):
        return pa.string()
    if t.is_float16(type_):
        return pa.float32()
    simple = (t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string, t.is_null)
    return type_ if any(is_simple(type_) for is_simple in simple) else None


def _list_like(type_: Any, value: Any) -> Any:
    if type_.value_type == value:
        return type_
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(value, type_.list_size)
    return pa.large_list(value) if pa.types.is_large_list(type_) else pa.list_(value)
