"""What a new table takes over from the one that it is made of, as JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vecmigrate.connector import MismatchError
from vecmigrate_lancedb.columns import Columns
from vecmigrate_lancedb.index import VectorIndex
from vecmigrate_lancedb.payload_reading import PayloadReader


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
