"""A table's ids and vectors: which columns they are, and their arrays."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vecmigrate.connector import (
    IdArray,
    InputError,
    MismatchError,
    Payload,
    PointId,
    Vectors,
    id_array,
    name_some,
    payload_json,
)
from vecmigrate_lancedb.index import VectorIndex
from vecmigrate_lancedb.marks import Mark
from vecmigrate_lancedb.place import Place

_IDS_A_CONDITION = 1000
_INT64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the id and the vector column, and how long a vector is."""

    id: str
    vector: str
    dimension: int


def columns_of(place: Place, schema: Any, mark: Mark | None) -> Columns:
    """Find the id and the vector column: as the URI says, else as noted, else by name and type.

    Raises
    ------
    InputError
        Where there is none, several could be meant, or one has a type that cannot be.
    """
    id_name = place.option("id") or (mark.id if mark else "id")
    vector = place.option("vector") or (mark.vector if mark else _only_vector(place, schema))
    for option, name in (("id", id_name), ("vector", vector)):
        if name not in schema.names:
            raise InputError(
                f"{place.uri} has no column {name!r}",
                remedy=f"Name the {option} column, as ?{option}=COLUMN; "
                f"there are {name_some(schema.names)}.",
            )
    id_type, vector_type = schema.field(id_name).type, schema.field(vector).type
    if not (pa.types.is_integer(id_type) or _is_text(id_type)):
        raise InputError(
            f"{place.uri}: the id column {id_name!r} holds {id_type}",
            remedy="Name one of integers or strings, as ?id=COLUMN.",
        )
    if not is_vector(vector_type):
        raise InputError(
            f"{place.uri}: the column {vector!r} holds {vector_type}, not vectors of one length",
            remedy="Name a column of fixed-size lists of floats, as ?vector=COLUMN.",
        )
    return Columns(id_name, vector, vector_type.list_size)


def is_vector(type_: Any) -> bool:
    """True for a fixed-size list of floats."""
    return bool(pa.types.is_fixed_size_list(type_) and pa.types.is_floating(type_.value_type))


def _is_text(type_: Any) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _only_vector(place: Place, schema: Any) -> str:
    found = [field.name for field in schema if is_vector(field.type)]
    if len(found) != 1:
        raise InputError(
            f"{place.uri} has {len(found)} vector columns"
            + (f": {name_some(found)}" if found else ""),
            remedy="Name the one to migrate, as ?vector=COLUMN.",
        )
    return str(found[0])


def ids_in(column: Any, what: object) -> IdArray:
    """Return a column's ids.

    Raises
    ------
    InputError
        Where a row has none, or a negative one, which is no id.
    """
    if column.null_count:
        raise InputError(
            f"{what}: {column.null_count} rows have no id", remedy="Give each row an id of its own."
        )
    if not pa.types.is_integer(column.type) or column.type == pa.uint64():
        return id_array(column.to_pylist())
    ids = np.asarray(column.cast(pa.int64()).to_numpy())
    if len(ids) and ids.min() < 0:
        raise InputError(
            f"{what} has the negative id {ids.min()}", remedy="Name another column, as ?id=COLUMN."
        )
    return ids


def vectors_in(column: Any, ids: IdArray, dimension: int, what: object) -> Vectors:
    """Return a column's vectors, ``(n, dimension)`` float32 C-contiguous; no copy of float32.

    Raises
    ------
    InputError
        Where a row has none, or one with a component that is null.
    """
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # as combine_chunks leaves an empty one
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if column.null_count:
        missing = ids[column.is_null().to_numpy(zero_copy_only=False)]
        raise InputError(
            f"{what}: there is no vector at id {name_some(missing.tolist())}",
            remedy="Delete these rows, or give them vectors.",
        )
    flat = column.flatten()
    if flat.null_count:
        broken = np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False)) // dimension
        raise InputError(
            f"{what}: components are missing at id {name_some(ids[np.unique(broken)].tolist())}",
            remedy="Delete these rows, or give them whole vectors.",
        )
    vectors = flat.to_numpy(zero_copy_only=False).reshape(-1, dimension)
    return np.ascontiguousarray(vectors, dtype=np.float32)


def id_column(ids: IdArray, type_: Any, what: object) -> Any:
    """Return ids as an Arrow array of ``type_``, or of int64 or string where that is None.

    Raises
    ------
    MismatchError
        Where they are of several kinds, or of another than the column's.
    """
    if ids.dtype == np.int64:
        made = pa.array(ids)
    elif all(isinstance(i, str) for i in ids.tolist()):
        made = pa.array(ids, pa.string())
    else:
        strange = [i for i in ids.tolist() if not isinstance(i, str)]
        raise MismatchError(
            f"{what} cannot hold the id {name_some(strange)}: a LanceDB column has integers up to "
            f"{_INT64_MAX}, or strings",
            remedy="Choose another store, or give the points ids of one kind.",
        )
    if type_ is not None and made.type != type_:
        raise MismatchError(
            f"{what} has ids of type {type_}, and id {ids[0]} is none",
            remedy="Choose another store, or give the points ids of one kind.",
        )
    return made


def condition(column: str, ids: Iterable[PointId]) -> str:
    """Return the SQL that chooses rows by ids."""
    listed = ", ".join(
        "'" + i.replace("'", "''") + "'" if isinstance(i, str) else str(i) for i in ids
    )
    return f"`{column}` IN ({listed})"


def parts(ids: list[PointId]) -> Iterator[list[PointId]]:
    """Yield ids in lists of a length that a condition may have."""
    for start in range(0, len(ids), _IDS_A_CONDITION):
        yield ids[start : start + _IDS_A_CONDITION]


def first_duplicate(column: Any) -> PointId | None:
    """Return an id that two rows have; None where there is none."""
    if pc.count_distinct(column).as_py() == len(column) - column.null_count:
        return None
    counted = pc.value_counts(column)
    twice = counted.filter(pc.greater(counted.field("counts"), 1))
    found: PointId = twice.field("values")[0].as_py()
    return found


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

    def columns(self, payloads: Sequence[Payload], ids: IdArray) -> dict[str, Any]:
        """Return an Arrow array for each column.

        Raises
        ------
        MismatchError
            If a payload is not JSON; names the id.
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
        made[self._rest] = pa.array(
            [payload_json(r, ids[row]) if r else None for row, r in enumerate(rests)], pa.string()
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


class Settings(BaseModel):
    """``CollectionDescription.settings`` of a LanceDB table.

    Attributes
    ----------
    id, vector
        Names of columns.
    payload
        The payload columns, an Arrow schema in base64.
    """

    model_config = ConfigDict(frozen=True)

    id: str = "id"
    vector: str = "vector"
    payload: str | None = None
    index: VectorIndex | None = None

    def fields(self) -> list[Any]:
        """Return the Arrow fields of the payload columns."""
        if self.payload is None:
            return []
        return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.payload))))


def settings_of(
    schema: Any, columns: Columns, payloads: PayloadReader, index: VectorIndex | None
) -> dict[str, JsonValue]:
    """Return the settings of a table as a description holds them."""
    fields = [pa.field(name, schema.field(name).type) for name in payloads.fields]
    encoded = base64.b64encode(pa.schema(fields).serialize().to_pybytes()).decode()
    found = Settings(id=columns.id, vector=columns.vector, payload=encoded, index=index)
    return found.model_dump(mode="json")


def parse_settings(given: dict[str, JsonValue]) -> Settings:
    """Read settings back.

    Raises
    ------
    MismatchError
        Where they are not what :func:`settings_of` made.
    """
    try:
        settings = Settings.model_validate(given)
        settings.fields()
    except (ValidationError, pa.ArrowException, binascii.Error, OSError) as error:
        raise MismatchError(
            "the settings of the LanceDB table cannot be read back",
            remedy="Use the same version of vecmigrate for source and target.",
        ) from error
    return settings
