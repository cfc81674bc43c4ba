"""A table's ids and vectors: which columns they are, and their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecmigrate.connector import (
    IdArray,
    InputError,
    MismatchError,
    PointId,
    Vectors,
    id_array,
    name_some,
)
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
