"""What new Parquet files take over from those that they are made of, as JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vecmigrate.connector import MismatchError
from vecmigrate_files.columns import Columns
from vecmigrate_files.data_file import DataFile
from vecmigrate_files.payload_reading import PayloadReader


class Settings(BaseModel):
    """``CollectionDescription.settings`` of Parquet files.

    Attributes
    ----------
    id, vector
        Names of columns.
    columns
        An Arrow schema in base64: all columns in their order, that of the vectors without a type.
    """

    model_config = ConfigDict(frozen=True)

    id: str = "id"
    vector: str = "vector"
    columns: str | None = None

    def fields(self) -> list[Any]:
        """Return the Arrow fields of the columns; empty where nothing is known."""
        if self.columns is None:
            return []
        return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.columns))))


def settings_of(file: DataFile, columns: Columns, payloads: PayloadReader) -> dict[str, JsonValue]:
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
    schema = pa.schema([kept[name] for name in order])
    return Settings(
        id=columns.id or "id",
        vector=columns.vector,
        columns=base64.b64encode(schema.serialize().to_pybytes()).decode(),
    ).model_dump(mode="json")


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
            "the settings of the Parquet files cannot be read back",
            remedy="Use the same version of vecmigrate for source and target.",
        ) from error
    return settings
