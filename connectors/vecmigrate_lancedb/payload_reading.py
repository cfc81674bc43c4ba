"""Payloads out of Arrow columns."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from vecmigrate_lancedb.columns import is_vector


class PayloadReader:
    """Makes payloads of a table's columns; a null is a field that the point does not have.

    Parameters
    ----------
    taken
        Columns that are no payload: ids and vectors.
    rest
        The column of vecmigrate's that holds further fields as JSON; None where there is none.

    Attributes
    ----------
    fields : tuple of str
        Columns read, ``rest`` not among them.
    left_out : tuple of str
        Columns that no payload can hold, each with its type.
    """

    def __init__(self, schema: Any, taken: set[str], rest: str | None) -> None:
        others = [f for f in schema if f.name not in taken and f.name != rest]
        kept = {f.name: _as_json(f.type) for f in others}
        self.fields = tuple(name for name, type_ in kept.items() if type_ is not None)
        self.left_out = tuple(f"{f.name} ({f.type})" for f in others if kept[f.name] is None)
        self._types = {name: kept[name] for name in self.fields}
        self._rest = rest if rest is not None and rest in schema.names else None
        self.columns = [*self.fields, *([self._rest] if self._rest else [])]

    def read(self, table: Any) -> list[dict[str, Any]]:
        """Return a payload for each row of an Arrow table that has :attr:`columns`."""
        cast = {
            name: table[name] if table[name].type == type_ else table[name].cast(type_)
            for name, type_ in self._types.items()
        }
        payloads: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        for name, column in cast.items():
            for payload, value in zip(payloads, column.to_pylist(), strict=True):
                if value is not None:
                    payload[name] = value
        if self._rest is not None:
            for payload, text in zip(payloads, table[self._rest].to_pylist(), strict=True):
                if text is not None:
                    payload.update(json.loads(text))
        return payloads


def _as_json(type_: Any) -> Any | None:
    """Return the type to cast to so that Python's values are JSON's; None where there is none."""
    t = pa.types
    if t.is_dictionary(type_):
        return _as_json(type_.value_type)
    if t.is_temporal(type_) and not (t.is_duration(type_) or t.is_interval(type_)):
        return pa.string()
    if t.is_decimal(type_):
        return pa.string()
    return type_ if _is_json(type_) else None


def _is_json(type_: Any) -> bool:
    t = pa.types
    if is_vector(type_):
        return False  # another encoder's vectors, which a payload is no place for
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        return _is_json(type_.value_type)
    if t.is_struct(type_):
        return all(_is_json(field.type) for field in type_)
    simple = (t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string, t.is_null)
    return any(is_simple(type_) for is_simple in simple)
