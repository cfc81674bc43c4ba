"""Payloads into Arrow columns, without losing any of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from vecmigrate.connector import Payload

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_INT64 = range(-(2**63), 2**63)


def infer_fields(payloads: Sequence[Payload], taken: set[str]) -> list[Any]:
    """Return a nullable column for each field whose values in ``payloads`` are of one plain type.

    Parameters
    ----------
    taken
        Names that are columns already. LanceDB's own begin with an underscore; SQL, which filters
        are written in, knows no upper case.
    """
    types: dict[str, set[type]] = {}
    for payload in payloads:
        for name, value in payload.items():
            types.setdefault(name, set()).add(type(value))
    used, fields = {name.lower() for name in taken}, []
    for name, seen in types.items():
        plain = _TYPES.get(next(iter(seen))) if len(seen) == 1 else None
        usable = name.isidentifier() and not name.startswith("_") and name.lower() not in used
        if plain is not None and usable:
            used.add(name.lower())
            fields.append(pa.field(name, plain))
    return fields


class PayloadWriter:
    """Spreads payloads over columns; what does not fit into one goes, as JSON, into ``rest``.

    Parameters
    ----------
    fields
        Arrow fields of the payload columns.
    rest
        Name of the column of strings that takes the others, explicit nulls too.
    """

    def __init__(self, fields: Sequence[Any], rest: str) -> None:
        self._fields = {field.name: field.type for field in fields}
        self._rest = rest

    def columns(self, payloads: Sequence[Payload]) -> dict[str, Any]:
        """Return an Arrow array for each column."""
        rests: list[dict[str, Any]] = [
            {k: v for k, v in p.items() if k not in self._fields or v is None} for p in payloads
        ]
        made: dict[str, Any] = {}
        for name, type_ in self._fields.items():
            values = [payload.get(name) for payload in payloads]
            fits = _fits(type_)
            misfits = [row for row, v in enumerate(values) if v is not None and not fits(v)]
            array = _array([v if v is not None and fits(v) else None for v in values], type_)
            if array is None:
                misfits = [row for row, v in enumerate(values) if v is not None]
                array = pa.nulls(len(values), type_)
            for row in misfits:
                rests[row][name] = values[row]
            made[name] = array
        made[self._rest] = pa.array(
            [json.dumps(rest, ensure_ascii=False) if rest else None for rest in rests], pa.string()
        )
        return made


def _fits(type_: Any) -> Callable[[Any], bool]:
    t = pa.types
    if t.is_boolean(type_):
        return lambda v: type(v) is bool
    if t.is_integer(type_):
        return lambda v: type(v) is int and v in _INT64
    if t.is_floating(type_):
        return lambda v: type(v) is float
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        return lambda v: type(v) is list
    if t.is_struct(type_):
        return lambda v: type(v) is dict
    return lambda v: type(v) is str  # text, and dates and decimals, which payloads have as text


def _array(values: list[Any], type_: Any) -> Any | None:
    """Return an array of exactly these values, or None where the type changes one."""
    written_as = pa.string() if pa.types.is_temporal(type_) or pa.types.is_decimal(type_) else type_
    try:
        array = pa.array(values, written_as)
        if written_as != type_:
            array = array.cast(type_)
            return array if array.cast(pa.string()).to_pylist() == values else None
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return array if array.to_pylist() == values else None
