"""What vecmigrate notes in a table that it makes."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from vecmigrate.connector import Provenance, TableMark

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
