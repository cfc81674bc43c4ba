"""Ids, vectors and payloads as Arrow columns, for stores that keep points in columns.

This module loads pyarrow, which ``vecmigrate.connector`` alone does not; a connector imports it by
``from vecmigrate.connector import arrow``.

What a column holds becomes JSON by one rule, so that a payload is the same whichever store it was
read from:

==========================  ======================================================================
booleans, integers, text    as they are
floats                      as they are: NaN and the infinities are floats of a payload, too
dates, times, timestamps    text as :meth:`datetime.datetime.isoformat` has it: ``T`` before the
                            time, no fraction if it is zero, else six digits (nine if six
                            lose some), the zone as ``+01:00``, UTC as ``+00:00``
decimals, UUIDs             text
dictionaries                their values
lists, structs              lists and mappings of these
bytes, maps, durations      nothing: a payload cannot hold them
==========================  ======================================================================
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vecmigrate.connector.sink import check_dimension
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.points.batch import IdArray, Payload, VectorBatch, Vectors, id_array
from vecmigrate.points.canonical import iso_time, payload_json
from vecmigrate.points.ids import name_some

REST = "vecmigrate_payload"
"""The column, of what vecmigrate wrote, with the fields that fit into no other one, as JSON."""

_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)
"""What Arrow raises for a value that a type cannot hold."""


# Types


def json_type(type_: Any) -> Any | None:
    """Return the type to cast to so that Python's values are JSON's; None if there is none.

    UUIDs stay what they are, and times become text as Arrow tells it: see :func:`json_values`.
    """
    return _rebuilt(type_, _json_leaf)


def _json_leaf(type_: Any) -> Any | None:
    t = pa.types
    if t.is_date(type_) or _is_time(type_) or t.is_decimal(type_):
        return pa.string()
    if t.is_float16(type_):
        return pa.float32()
    simple = (t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string, t.is_null)
    return type_ if any(is_simple(type_) for is_simple in simple) else None


def _rebuilt(type_: Any, leaf: Callable[[Any], Any | None]) -> Any | None:
    """Return a type with all that is no list or struct of it replaced; None if one has none."""
    t = pa.types
    if is_uuid(type_):
        return type_
    if isinstance(type_, pa.BaseExtensionType):
        return _rebuilt(type_.storage_type, leaf)
    if t.is_dictionary(type_):
        return _rebuilt(type_.value_type, leaf)
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        value = _rebuilt(type_.value_type, leaf)
        return None if value is None else _list_like(type_, value)
    if t.is_struct(type_):
        fields = [(field.name, _rebuilt(field.type, leaf)) for field in type_]
        return None if any(made is None for _, made in fields) else pa.struct(fields)
    return leaf(type_)


def is_id(type_: Any) -> bool:
    """True for integers, text, UUIDs, and dictionaries of them."""
    if pa.types.is_dictionary(type_):
        return is_id(type_.value_type)
    return pa.types.is_integer(type_) or is_text(type_) or is_uuid(type_)


def is_text(type_: Any) -> bool:
    """True for text, however long."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def is_uuid(type_: Any) -> bool:
    """True for Arrow's extension type of UUIDs."""
    return isinstance(type_, pa.BaseExtensionType) and type_.extension_name == "arrow.uuid"


def is_vector(type_: Any) -> bool:
    """True for lists of floats, of a fixed size or not."""
    type_ = _stored(type_)
    t = pa.types
    is_list = t.is_fixed_size_list(type_) or t.is_list(type_) or t.is_large_list(type_)
    return bool(is_list and t.is_floating(type_.value_type) and fixed_size(type_) != 0)


def fixed_size(type_: Any) -> int | None:
    """Return the length that the type gives to all lists; None if it gives none."""
    type_ = _stored(type_)
    return int(type_.list_size) if pa.types.is_fixed_size_list(type_) else None


def check_column(
    where: object,
    schema: Any,
    name: str,
    option: str,
    fits: Callable[[Any], bool],
    wanted: str,
    *,
    instead: str = "",
) -> None:
    """Refuse a column that a URI's option names, or would have to name, if it cannot be that.

    Parameters
    ----------
    option
        ``id`` or ``vector``.
    fits
        True for a type that can be.
    wanted
        What is wanted, in words.
    instead
        What to do without such a column, in words.

    Raises
    ------
    InputError
        If it is not there, or of another type.
    """
    if name not in schema.names:
        raise InputError(
            f"{where} has no column {name!r}",
            remedy=f"Name the {option} column, as ?{option}=COLUMN, of: {name_some(schema.names)}"
            + (f"; or {instead}." if instead else "."),
        )
    type_ = schema.field(name).type
    if not fits(type_):
        raise InputError(
            f"{where}: the {option} column {name!r} holds {type_}, not {wanted}",
            remedy=f"Name a column of {wanted}, as ?{option}=COLUMN.",
        )


def vector_name(
    where: object, schema: Any, fits: Callable[[Any], bool], usual: Sequence[str] = ()
) -> str:
    """Return the column of vectors: the first of the usual names, else the only one.

    Raises
    ------
    InputError
        If there is none, or several could be meant.
    """
    found = [field.name for field in schema if fits(field.type)]
    names = [name for name in usual if name in found] or found
    if not names or (names is found and len(found) > 1):
        raise InputError(
            f"{where} has {len(found)} columns of vectors"
            + (f": {name_some(found)}" if found else ""),
            remedy=f"Name the one to migrate, as ?vector=COLUMN, of: {name_some(schema.names)}.",
        )
    return str(names[0])


def _stored(type_: Any) -> Any:
    """Return what an extension type, as a tensor's, is stored as."""
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def _list_like(type_: Any, value: Any) -> Any:
    if type_.value_type == value:
        return type_
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(value, type_.list_size)
    return pa.large_list(value) if pa.types.is_large_list(type_) else pa.list_(value)


def _is_time(type_: Any) -> bool:
    return bool(pa.types.is_timestamp(type_) or pa.types.is_time(type_))


# Ids


def plain_ids(column: Any, row: Callable[[int], str]) -> Any:
    """Return an Arrow array of ids as int64, uint64 or text.

    Parameters
    ----------
    row
        Names a row to a user.

    Raises
    ------
    InputError
        If a row has none, or a negative one, which is no id.
    """
    if column.null_count:
        at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{row(at)} has no id", remedy="Give each row an id of its own.")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_uuid(column.type):
        return pa.array([str(i) for i in column.to_pylist()], pa.large_string())
    if not pa.types.is_integer(column.type):
        return column.cast(pa.large_string())  # one type, whatever the files have
    if column.type != pa.uint64():
        column = column.cast(pa.int64())
        negative = np.flatnonzero(column.to_numpy() < 0)
        if len(negative):
            at = int(negative[0])
            raise InputError(
                f"{row(at)} has the negative id {column[at]}",
                remedy="Name a column of ids from 0 on, as ?id=COLUMN.",
            )
    return column


def ids_of(column: Any) -> IdArray:
    """Return what :func:`plain_ids` made as an :data:`IdArray`; int64 without a copy."""
    if column.type == pa.int64():
        return np.asarray(column.to_numpy())
    return id_array(column.to_pylist())


def id_column(ids: IdArray, type_: Any | None, what: object) -> Any:
    """Return ids as an Arrow array of ``type_``, of int64, uint64 or text if that is None.

    Raises
    ------
    MismatchError
        If a column of ``what`` cannot hold one of them.
    """
    try:
        if ids.dtype == np.int64 and (type_ is None or pa.types.is_integer(type_)):
            return pa.array(ids).cast(type_ or pa.int64())
        return _converted(ids.tolist(), type_)
    except _UNFIT:
        strange = _misfit(ids.tolist(), type_)
    raise MismatchError(
        f"{what} cannot hold the id {strange}: its ids are "
        f"{'integers or text' if type_ is None else f'of type {type_}'}, all of one kind",
        remedy="Choose another store, or give the points ids of one kind.",
    )


def _converted(ids: list[Any], type_: Any | None) -> Any:
    if all(isinstance(i, str) for i in ids):
        if type_ is not None and is_uuid(type_):
            if any(str(uuid.UUID(i)) != i for i in ids):
                raise ValueError("a UUID that is spelled otherwise")
            return pa.array([uuid.UUID(i).bytes for i in ids], type_)
        if type_ is not None and not is_text(type_):
            raise TypeError("text among integers")
        return pa.array(ids, type_ or pa.string())
    if any(isinstance(i, str) for i in ids) or not (type_ is None or pa.types.is_integer(type_)):
        raise TypeError("integers among text")
    return pa.array([int(i) for i in ids], type_ or pa.uint64())


def _misfit(ids: list[Any], type_: Any | None) -> Any:
    """Return the first id that cannot be, or that is of another kind than those before it."""
    for point_id in ids:
        try:
            _converted([point_id], type_)
        except _UNFIT:
            return point_id
    return next(i for i in ids if isinstance(i, str) != isinstance(ids[0], str))


# Vectors


def vectors_in(column: Any, ids: IdArray, dimension: int, row: Callable[[int], str]) -> Vectors:
    """Return an Arrow array's vectors, ``(n, dimension)`` float32 C-contiguous; float32 uncopied.

    Parameters
    ----------
    ids
        ``(n,)`` ids, for messages.
    row
        Names a row to a user.

    Raises
    ------
    InputError
        If a row has none, one of another length, or one with a component that is null.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if column.null_count:
        _refuse(column.is_null(), ids, row, "has no vector")
    if fixed_size(column.type) is None:
        lengths = pc.list_value_length(column)
        uneven = pc.not_equal(lengths, dimension)
        if pc.any(uneven).as_py():
            at = int(np.flatnonzero(uneven.to_numpy(zero_copy_only=False))[0])
            said = f"has a vector of {lengths[at]} components, the first row one of {dimension}"
            _refuse(uneven, ids, row, said)
    flat = column.flatten()
    if flat.null_count:
        broken = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, dimension)
        _refuse(pa.array(broken.any(axis=1)), ids, row, "has a vector with a null in it")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and screened as such
        return np.ascontiguousarray(
            flat.to_numpy(zero_copy_only=False).reshape(-1, dimension), dtype=np.float32
        )


def _refuse(mask: Any, ids: IdArray, row: Callable[[int], str], said: str) -> None:
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    at = int(rows[0])
    more = f", and {len(rows) - 1} more rows of this batch" if len(rows) > 1 else ""
    raise InputError(
        f"{row(at)} (id {ids[at]}) {said}{more}",
        remedy="Give these rows whole vectors of one length, or take them out.",
    )


def vector_column(vectors: Vectors, type_: Any | None = None) -> Any:
    """Return ``(n, d)`` float32 as an Arrow array of lists of a fixed size; no copy.

    Parameters
    ----------
    type_
        A type of such lists, if the names of its parts count.
    """
    flat = pa.array(vectors.reshape(-1))
    if type_ is None:
        return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(flat, type=type_)


# Payloads


class PayloadReader:
    """Makes payloads of columns.

    Parameters
    ----------
    fields
        Arrow fields of the columns that are payload.
    rest
        Name of the column among them with further fields as JSON; None if there is none.
    nulls
        A null is a field that is null; else, a field that the point does not have.
    refused
        Types that are no payload to the store, though one could hold them.

    Attributes
    ----------
    fields : tuple of str
        Names of the columns read, ``rest`` not among them.
    left_out : tuple of str
        Columns that no payload can hold, each with its type.
    columns : list of str
        All that :meth:`read` needs.
    """

    def __init__(
        self,
        fields: Iterable[Any],
        *,
        rest: str | None = None,
        nulls: bool = False,
        refused: Callable[[Any], bool] = lambda type_: False,
    ) -> None:
        there = list(fields)
        others = [field for field in there if field.name != rest]
        readable = {f.name: json_type(f.type) is not None and not refused(f.type) for f in others}
        self._rest = rest if len(others) < len(there) else None
        self._nulls = nulls
        self.fields = tuple(name for name, is_readable in readable.items() if is_readable)
        self.left_out = tuple(f"{f.name} ({f.type})" for f in others if not readable[f.name])
        self.columns = [*self.fields, *([self._rest] if self._rest else [])]

    def read(self, rows: Any) -> list[dict[str, Any]]:
        """Return a payload for each row of an Arrow record batch or table.

        Columns that it lacks are fields that no point has.

        Raises
        ------
        ValueError
            If a column is of another type than the fields said, one that no payload can hold.
        """
        payloads: list[dict[str, Any]] = [{} for _ in range(rows.num_rows)]
        there = set(rows.schema.names)
        for name in self.fields:
            if name not in there:
                continue
            column = rows.column(name)
            nulls = self._nulls or not column.null_count
            for payload, value in zip(payloads, json_values(column), strict=True):
                if nulls or value is not None:
                    payload[name] = value
        if self._rest is not None and self._rest in there:
            for payload, text in zip(payloads, rows.column(self._rest).to_pylist(), strict=True):
                if text is not None:
                    payload.update(json.loads(text))
        return payloads


def json_values(column: Any) -> list[Any]:
    """Return the values of an Arrow array as JSON's, by this module's rule.

    Raises
    ------
    ValueError
        If they have no form in JSON.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_time(column.type):
        return list(_iso_texts(column).to_pylist())
    type_ = json_type(column.type)
    if type_ is None:  # in one file of several
        raise ValueError(f"a column of another type elsewhere holds {column.type}")
    values: list[Any] = (column if column.type == type_ else column.cast(type_)).to_pylist()
    spell = _speller(column.type)
    return values if spell is None else [None if v is None else spell(v) for v in values]


def _iso_texts(column: Any) -> Any:
    """Return times as text, all at once: as :func:`iso_time` does it with one."""
    type_ = column.type
    zone = type_.tz if pa.types.is_timestamp(type_) else None
    if zone == "UTC":  # forty times as fast as with a zone
        column = column.cast(pa.timestamp(type_.unit))
        return pc.binary_join_element_wise(_iso_texts(column), "+00:00", "")
    with suppress(pa.ArrowInvalid):  # nanoseconds that count
        column = column.cast(
            pa.time64("us") if pa.types.is_time(type_) else pa.timestamp("us", zone)
        )
    texts = pc.replace_substring(column.cast(pa.string()), " ", "T")
    steps = [(r"\.0+($|[+-])", r"\1")]
    if type_.unit == "ns":
        steps.append((r"(\.\d{6})000($|[+-])", r"\1\2"))
    if zone is not None:
        steps.append((r"([+-]\d\d)(\d\d)$", r"\1:\2"))
    for pattern, replacement in steps:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _speller(type_: Any) -> Callable[[Any], Any] | None:
    """Return what spells the UUIDs and times in a value of the type; None if it has none."""
    if is_uuid(type_):
        return str
    if _is_time(type_):
        return iso_time
    type_ = _stored(type_)
    if pa.types.is_dictionary(type_):
        return _speller(type_.value_type)
    if pa.types.is_struct(type_):
        parts = {f.name: spell for f in type_ if (spell := _speller(f.type)) is not None}
        return (lambda value: _spelled(value, parts)) if parts else None
    within = _speller(type_.field(0).type) if type_.num_fields else None
    if within is None:
        return None
    return lambda value: [None if part is None else within(part) for part in value]


def _spelled(value: dict[str, Any], parts: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    for name, spell in parts.items():
        if value[name] is not None:
            value[name] = spell(value[name])
    return value


_PLAIN = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def infer_fields(payloads: Sequence[Payload]) -> list[Any]:
    """Return a nullable column for each field whose values in ``payloads`` are of one plain type.

    A name that UTF-8 cannot hold is left out, as names are that a store cannot have: it is for
    the caller to drop those.
    """
    types: dict[str, set[type]] = {}
    for payload in payloads:
        for name, value in payload.items():
            types.setdefault(name, set()).add(type(value))
    return [
        pa.field(name, _PLAIN[kind])
        for name, kinds in types.items()
        for kind in kinds
        if len(kinds) == 1 and kind in _PLAIN and _is_unicode(name)
    ]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class PayloadWriter:
    """Spreads payloads over columns; what does not fit into one goes, as JSON, into ``rest``.

    Parameters
    ----------
    fields
        Arrow fields of the payload columns, without dictionaries.
    rest
        Name of the column of text that takes the others, explicit nulls too.
    """

    def __init__(self, fields: Sequence[Any], rest: str = REST) -> None:
        self._types = {field.name: field.type for field in fields}
        self._rest = rest

    def columns(self, payloads: Sequence[Payload], ids: IdArray) -> dict[str, Any]:
        """Return an Arrow array for each column.

        Raises
        ------
        MismatchError
            If a payload is not JSON; names the id.
        """
        rests: list[dict[str, Any]] = [
            {k: v for k, v in p.items() if k not in self._types or v is None} for p in payloads
        ]
        made: dict[str, Any] = {}
        for name, type_ in self._types.items():
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
        made[self._rest] = pa.array(texts, pa.string())
        return made


def _fits(type_: Any) -> Callable[[Any], bool]:
    t = pa.types
    made: Any = json_type(type_)
    if t.is_boolean(made):
        return lambda v: type(v) is bool
    if t.is_integer(made):
        bounds = np.iinfo(made.to_pandas_dtype())
        held = range(int(bounds.min), int(bounds.max) + 1)
        return lambda v: type(v) is int and v in held
    if t.is_floating(made):
        return lambda v: type(v) is float
    if t.is_list(made) or t.is_large_list(made) or t.is_fixed_size_list(made):
        return lambda v: type(v) is list
    if t.is_struct(made):
        return lambda v: type(v) is dict
    return lambda v: type(v) is str  # text, and dates and decimals, which payloads have as text


def _array(values: list[Any], type_: Any) -> Any | None:
    """Return an array of exactly these values, or None if the type changes one."""
    try:
        if is_uuid(type_):
            array = pa.array([None if v is None else uuid.UUID(v).bytes for v in values], type_)
        else:
            as_json = json_type(type_)
            array = pa.array(values, as_json)
            if as_json != type_:
                array = _cast(array, type_)
    except _UNFIT:
        return None
    return array if _same(array, values) else None


def _cast(array: Any, type_: Any) -> Any:
    if pa.types.is_time(type_):
        # Arrow reads no times of day out of text, but points in time.
        moments = pc.binary_join_element_wise("1970-01-01", array, " ")
        return moments.cast(pa.timestamp("ns")).cast(pa.time64("ns")).cast(type_)
    return array.cast(_rebuilt(type_, _digits_read)).cast(type_)


def _digits_read(type_: Any) -> Any:
    """Return a type for timestamps that Arrow reads six digits of a second into."""
    if not pa.types.is_timestamp(type_) or type_.unit == "ns":
        return type_
    return pa.timestamp("us", type_.tz)


def _same(array: Any, values: list[Any]) -> bool:
    if pa.types.is_floating(array.type):
        given = np.array([np.nan if v is None else v for v in values], np.float64)
        held = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        nulls = sum(v is None for v in values)
        return array.null_count == nulls and bool(np.array_equal(held, given, equal_nan=True))
    return json_values(array) == values


# Whole rows


class RowWriter:
    """Makes Arrow record batches of batches of points.

    Parameters
    ----------
    schema
        All columns; those that are not named below are payload.
    id_name, vector_name, rest
        Names of columns: of ids, of float32 vectors as lists of a fixed size, and of text for
        what fits into no payload column, as JSON.
    what
        The collection, for messages.

    Attributes
    ----------
    schema : pyarrow.Schema
        The record batches', dictionaries decoded; cast them to the one given to have these back.
    """

    def __init__(
        self, schema: Any, *, id_name: str, vector_name: str, rest: str = REST, what: object
    ) -> None:
        self.schema = pa.schema([pa.field(f.name, _decoded(f.type)) for f in schema])
        self._id, self._vector, self._what = id_name, vector_name, what
        keys = {id_name, vector_name, rest}
        self._payloads = PayloadWriter([f for f in self.schema if f.name not in keys], rest)

    def rows(self, batch: VectorBatch) -> Any:
        """Return an Arrow record batch.

        Raises
        ------
        MismatchError
            If the dimension is another, an id cannot be held, or a payload is not JSON.
        """
        vector_type = self.schema.field(self._vector).type
        check_dimension(batch, vector_type.list_size, self._what)
        columns = {
            self._id: id_column(batch.ids, self.schema.field(self._id).type, self._what),
            self._vector: vector_column(batch.vectors, vector_type),
            **self._payloads.columns(batch.each_payload(), batch.ids),
        }
        return pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)


def _decoded(type_: Any) -> Any:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


class ColumnSettings(BaseModel):
    """``CollectionDescription.settings`` of a store of columns; derive from it to add some.

    Attributes
    ----------
    id, vector
        Names of columns.
    columns
        An Arrow schema in base64, by :meth:`packed`; None if none is known.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str = "id"
    vector: str = "vector"
    columns: str | None = None

    @staticmethod
    def packed(fields: Iterable[Any]) -> str:
        """Return Arrow fields as a text."""
        return base64.b64encode(pa.schema(list(fields)).serialize().to_pybytes()).decode()

    def fields(self) -> list[Any]:
        """Return the Arrow fields of the columns; empty if none is known."""
        if self.columns is None:
            return []
        return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.columns))))

    def settings(self) -> dict[str, JsonValue]:
        """Return what a description holds."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def parse(cls, given: dict[str, JsonValue], what: str) -> Self:
        """Read settings back.

        Raises
        ------
        MismatchError
            If they are not what :meth:`settings` made.
        """
        try:
            settings = cls.model_validate(given)
            settings.fields()
        except (ValidationError, pa.ArrowException, binascii.Error, OSError) as error:
            raise MismatchError(
                f"the settings of {what} cannot be read back",
                remedy="Use the same version of vecmigrate for source and target.",
            ) from error
        return settings
