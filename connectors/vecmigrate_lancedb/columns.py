"""A table's ids and vectors: which columns they are, and their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, JsonValue, ValidationError

from vecmigrate.connector import IdArray, Payload, PointId, Provenance, TableMark, Vectors, arrow
from vecmigrate_lancedb.index import VectorIndex
from vecmigrate_lancedb.place import Place

_IDS_A_CONDITION = 1000

UPDATED_KEY = b"vecmigrate-updated"
"""In the id column's metadata, since LanceDB lets no program change the schema's own."""


class Mark(TableMark):
    """A table's mark.

    Attributes
    ----------
    rest
        The column of what of the payloads has no column of its own, as JSON.
    """

    rest: str


def mark_of(schema: Any) -> Mark | None:
    """Return what vecmigrate noted, with the provenance of the last update; None for others'."""
    mark = Mark.of(schema)
    if mark is None:
        return None
    try:
        updated = (schema.field(mark.id).metadata or {}).get(UPDATED_KEY)
        provenance = mark.provenance if updated is None else Provenance.model_validate_json(updated)
    except (ValidationError, KeyError):
        return None
    return mark.model_copy(update={"provenance": provenance})


def note_update(table: Any, id_column: str, provenance: Provenance) -> None:
    """Note in a finished table what updated it; a version of its own."""
    metadata = {UPDATED_KEY.decode(): provenance.model_dump_json()}
    table.update_field_metadata({"path": id_column, "metadata": metadata})


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
        If there is none, several could be meant, or one has a type that cannot be.
    """
    id_name = place.option("id") or (mark.id if mark else "id")
    vector = place.option("vector") or (
        mark.vector if mark else arrow.vector_name(place.uri, schema, is_vector)
    )
    arrow.check_column(place.uri, schema, id_name, "id", _is_id, "integers or strings")
    arrow.check_column(
        place.uri, schema, vector, "vector", is_vector, "vectors, fixed-size lists of floats"
    )
    return Columns(id_name, vector, schema.field(vector).type.list_size)


def _is_id(type_: Any) -> bool:
    return bool(pa.types.is_integer(type_)) or arrow.is_text(type_)


def is_vector(type_: Any) -> bool:
    """True for a fixed-size list of floats."""
    return arrow.is_vector(type_) and arrow.fixed_size(type_) is not None


def ids_in(column: Any, what: object) -> IdArray:
    """Return a table's column of ids.

    Raises
    ------
    InputError
        If a row has none, or a negative one, which is no id.
    """
    return arrow.ids_of(arrow.plain_ids(_joined(column), lambda at: f"a row of {what}"))


def vectors_in(column: Any, ids: IdArray, dimension: int, what: object) -> Vectors:
    """Return a table's column of vectors; see :func:`arrow.vectors_in`."""
    return arrow.vectors_in(_joined(column), ids, dimension, lambda at: f"a row of {what}")


def _joined(column: Any) -> Any:
    """Return a table's column in one piece; no copy of one that is."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


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
    """Return an id that two rows have; None if there is none."""
    if pc.count_distinct(column).as_py() == len(column) - column.null_count:
        return None
    counted = pc.value_counts(column)
    twice = counted.filter(pc.greater(counted.field("counts"), 1))
    found: PointId = twice.field("values")[0].as_py()
    return found


def payload_reader(schema: Any, columns: Columns, mark: Mark | None) -> arrow.PayloadReader:
    """Make the reader of the payload columns: not those of vectors, another encoder's perhaps."""
    keys = {columns.id, columns.vector}
    return arrow.PayloadReader(
        (field for field in schema if field.name not in keys),
        rest=mark.rest if mark else None,
        refused=_holds_vectors,
    )


def _holds_vectors(type_: Any) -> bool:
    return is_vector(type_) or any(
        _holds_vectors(type_.field(at).type) for at in range(type_.num_fields)
    )


def infer_fields(payloads: Sequence[Payload], taken: set[str]) -> list[Any]:
    """Return columns for payload fields; see :func:`arrow.infer_fields`.

    Parameters
    ----------
    taken
        Names that are columns already. LanceDB's own begin with an underscore; SQL, which filters
        are written in, knows no upper case.
    """
    used, fields = {name.lower() for name in taken}, []
    for field in arrow.infer_fields(payloads):
        name = field.name.lower()
        if field.name.isidentifier() and not name.startswith("_") and name not in used:
            used.add(name)
            fields.append(field)
    return fields


class Settings(arrow.ColumnSettings):
    """``CollectionDescription.settings`` of a LanceDB table: its payload columns, and its index."""

    columns: str | None = Field(
        default=None, validation_alias="payload", serialization_alias="payload"
    )
    index: VectorIndex | None = None


def settings_of(
    schema: Any, columns: Columns, payloads: arrow.PayloadReader, index: VectorIndex | None
) -> dict[str, JsonValue]:
    """Return the settings of a table as a description holds them."""
    packed = Settings.packed(pa.field(name, schema.field(name).type) for name in payloads.fields)
    return Settings(id=columns.id, vector=columns.vector, columns=packed, index=index).settings()
