"""Which columns of Parquet files are ids, vectors and payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import JsonValue

from vecmigrate.connector import InputError, LocalPlace, TableMark, arrow
from vecmigrate_files.parquet.data_file import DataFile

ROW_NUMBERS = "row"
"""The value of ``?id=`` that makes row numbers the ids."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns.

    Attributes
    ----------
    id
        None if the row numbers are the ids.
    payload
        Arrow fields of all others, those by folders last.
    """

    id: str | None
    vector: str
    payload: tuple[Any, ...]

    @property
    def keys(self) -> list[str]:
        """The columns that every file must have."""
        return [self.vector] if self.id is None else [self.id, self.vector]


def columns_of(place: LocalPlace, files: Sequence[DataFile], mark: TableMark | None) -> Columns:
    """Find the id and the vector column: as the URI says, else as noted, else by name and type.

    Raises
    ------
    InputError
        If there is none, several could be meant, a file lacks one, or one has a type that
        cannot be.
    """
    schema = files[0].schema
    asked = place.option("id")
    id_name: str | None = asked or (mark.id if mark else "id")
    if asked == ROW_NUMBERS and ROW_NUMBERS not in schema.names:
        id_name = None
    vector = place.option("vector") or (
        mark.vector
        if mark
        else arrow.vector_name(place.uri, schema, arrow.is_vector, ("vector", "embedding"))
    )
    for file in files:
        where = f"{place.uri}: {file.path}"
        if id_name is not None:
            arrow.check_column(
                where, file.schema, id_name, "id", arrow.is_id, "integers or text",
                instead=f"number the rows by ?id={ROW_NUMBERS}",
            )  # fmt: skip
        arrow.check_column(where, file.schema, vector, "vector", arrow.is_vector, "lists of floats")
    sizes = {
        size: file for file in files if (size := arrow.fixed_size(file.schema.field(vector).type))
    }
    if len(sizes) > 1:
        (one, first), (another, second), *_ = sizes.items()
        raise InputError(
            f"{place.uri} has vectors of {one} components in {first.path}, "
            f"of {another} in {second.path}",
            remedy="Keep each model's vectors in a folder of their own.",
        )
    return Columns(id_name, vector, _payload_fields(files, {id_name, vector}))


def _payload_fields(files: Sequence[DataFile], taken: set[str | None]) -> tuple[Any, ...]:
    """Return a field for each column of any file; the type is the first file's to have it."""
    fields: dict[str, Any] = {}
    for file in files:
        for field in file.schema:
            if field.name not in taken:
                known = fields.get(field.name)
                if known is None or pa.types.is_null(known.type):
                    fields[field.name] = pa.field(field.name, field.type)
    for file in files:
        for name, value in file.partition.items():
            if name not in taken and name not in fields:
                fields[name] = pa.field(name, pa.int64() if type(value) is int else pa.string())
    return tuple(fields.values())


def settings_of(
    file: DataFile, columns: Columns, payloads: arrow.PayloadReader
) -> dict[str, JsonValue]:
    """Return the settings of files as a description holds them.

    Parameters
    ----------
    file
        The first of them, whose order of columns counts.
    """
    kept = {f.name: f for f in columns.payload if f.name in payloads.fields}
    if columns.id is not None:
        kept[columns.id] = pa.field(columns.id, file.schema.field(columns.id).type)
    kept[columns.vector] = pa.field(columns.vector, pa.null())
    order = dict.fromkeys([*(n for n in file.schema.names if n in kept), *kept])
    packed = arrow.ColumnSettings.packed(kept[name] for name in order)
    settings = arrow.ColumnSettings(id=columns.id or "id", vector=columns.vector, columns=packed)
    return settings.settings()
