"""What vecmigrate notes in a table that it makes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.connector import Metric, Provenance

KEY = b"vecmigrate"
UPDATED_KEY = b"vecmigrate-updated"
"""In the id column's metadata, since LanceDB lets no program change the schema's own."""


class Mark(BaseModel):
    """In the schema's metadata, under :data:`KEY`.

    Attributes
    ----------
    id, vector, rest
        Names of columns: ids, vectors, and what of the payloads has no column of its own, as JSON.
    text
        The payload field that holds the embedded text.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    vector: str
    rest: str
    metric: Metric
    text: str | None = None
    provenance: Provenance | None = None

    def metadata(self) -> dict[bytes, bytes]:
        return {KEY: self.model_dump_json().encode()}


def mark_of(schema: Any) -> Mark | None:
    """Return what vecmigrate noted, with the provenance of the last update; None for others'."""
    noted = (schema.metadata or {}).get(KEY)
    if noted is None:
        return None
    try:
        mark = Mark.model_validate_json(noted)
        updated = (schema.field(mark.id).metadata or {}).get(UPDATED_KEY)
        if updated is None:
            return mark
        provenance = Provenance.model_validate_json(updated)
    except (ValidationError, KeyError):
        return None
    return mark.model_copy(update={"provenance": provenance})


def note_update(table: Any, id_column: str, provenance: Provenance) -> None:
    """Note in a finished table what updated it; a version of its own."""
    metadata = {UPDATED_KEY.decode(): provenance.model_dump_json()}
    table.update_field_metadata({"path": id_column, "metadata": metadata})
