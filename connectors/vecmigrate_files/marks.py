"""What vecmigrate notes in the files that it makes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.connector import Metric, Provenance

KEY = b"vecmigrate"


class Mark(BaseModel):
    """In a Parquet file's metadata, under :data:`KEY`, or in the companion of an npy file.

    Attributes
    ----------
    text
        The payload field that holds the embedded text.
    """

    model_config = ConfigDict(frozen=True)

    metric: Metric
    text: str | None = None
    provenance: Provenance | None = None


class ParquetMark(Mark):
    """Also names the columns of ids and vectors."""

    id: str
    vector: str

    def metadata(self) -> dict[bytes, bytes]:
        return {KEY: self.model_dump_json().encode()}


def mark_of(schema: Any) -> ParquetMark | None:
    """Return what vecmigrate noted in an Arrow schema; None where another made the file."""
    noted = (schema.metadata or {}).get(KEY)
    if noted is None:
        return None
    try:
        return ParquetMark.model_validate_json(noted)
    except ValidationError:
        return None
