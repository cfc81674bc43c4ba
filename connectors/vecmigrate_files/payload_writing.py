"""Payloads into Arrow columns, without losing any of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecmigrate.connector import IdArray, Payload, payload_json
from vecmigrate_files.ids import is_uuid
from vecmigrate_files.payload_reading import REST, json_type

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_INTEGERS = range(-(2**63), 2**64)


def infer_fields(payloads: Sequence[Payload], taken: set[str]) -> list[Any]:
    """Return a nullable column for each field whose values in ``payloads`` are of one plain type.

    Parameters
    ----------
    taken
        Names that are columns already.
    """
    types: dict[str, set[type]] = {}
    for payload in payloads:
        for name, value in payload.items():
            types.setdefault(name, set()).add(type(value))
    return [
        pa.field(name, _TYPES[kind])
        for name, kinds in types.items()
        for kind in kinds
        if len(kinds) == 1 and kind in _TYPES and name not in taken and _is_unicode(name)
    ]


class PayloadWriter:
    """Spreads payloads over columns; what does not fit into one goes, as JSON, into ``REST``.

    Parameters
    ----------
    fields
        Arrow fields of the payload columns.
    """

    def __init__(self, fields: Sequence[Any]) -> None:
        self._fields = {field.name: field.type for field in fields}

    def columns(self, payloads: Sequence[Payload], ids: IdArray) -> dict[str, Any]:
        """Return an Arrow array for each column.

        Raises
        ------
        MismatchError
            Where a payload is not JSON; names the id.
        """
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
        texts = [payload_json(r, ids[row]) if r else None for row, r in enumerate(rests)]
        made[REST] = pa.array(texts, pa.string())
        return made


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(type_: Any) -> Callable[[Any], bool]:
    t = pa.types
    made = json_type(type_)
    if t.is_boolean(made):
        return lambda v: type(v) is bool
    if t.is_integer(made):
        return lambda v: type(v) is int and v in _INTEGERS
    if t.is_floating(made):
        return lambda v: type(v) is float
    if t.is_list(made) or t.is_large_list(made) or t.is_fixed_size_list(made):
        return lambda v: type(v) is list
    if t.is_struct(made):
        return lambda v: type(v) is dict
    return lambda v: type(v) is str  # text, and dates and decimals, which payloads have as text


def _array(values: list[Any], type_: Any) -> Any | None:
    """Return an array of exactly these values, or None where the type changes one."""
    try:
        if is_uuid(type_):
            binary = [None if v is None else uuid.UUID(v).bytes for v in values]
            array = pa.array(binary, type_)
            told = [None if v is None else str(v) for v in array.to_pylist()]
            return array if told == values else None
        as_json = json_type(type_)
        array = pa.array(values, as_json)
        if as_json != type_:
            written = _cast(array, type_)
            back = written.cast(as_json)
            return written if _same(back, values) else None
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return None
    return array if _same(array, values) else None


def _cast(array: Any, type_: Any) -> Any:
    if not pa.types.is_time(type_):
        return array.cast(type_)
    # Arrow reads no times of day out of text, but points in time.
    moments = pc.binary_join_element_wise("1970-01-01", array, " ")
    return moments.cast(pa.timestamp(type_.unit)).cast(type_)


def _same(array: Any, values: list[Any]) -> bool:
    if pa.types.is_floating(array.type):
        given = np.array([np.nan if v is None else v for v in values], np.float64)
        held = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        nulls = sum(v is None for v in values)
        return array.null_count == nulls and bool(np.array_equal(held, given, equal_nan=True))
    return bool(array.to_pylist() == values)
