"""What vecmigrate notes beside an index that it wrote, for the index cannot hold it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.connector import InputError, Provenance
from vecmigrate_faiss.exchange import belonging
from vecmigrate_faiss.location import Location

FORMAT = 1


class Companion(BaseModel):
    """The contents of ``NAME.vecmigrate.json``.

    Attributes
    ----------
    format
        Version of this file's form.
    dimension
        That of the index, by which a companion of another index is told.
    cosine
        True if the rows were given unit length so that the inner product is the cosine.
    sidecar
        True where a sidecar belongs to the index, at the place where a sink writes it.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    dimension: int
    cosine: bool = False
    sidecar: bool = False
    text_field: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Provenance | None = None


def read_companion(location: Location) -> Companion | None:
    """Return the companion of an index, or None if it has none.

    Raises
    ------
    InputError
        If it cannot be read or was written by a later version.
    """
    _, path = belonging(location)
    try:
        companion = Companion.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path} cannot be read as what vecmigrate notes of an index",
            remedy="Restore the file, or move it away to read the index without it.",
        ) from error
    if companion.format > FORMAT:
        raise InputError(
            f"{path} has the format {companion.format}, this version knows {FORMAT}",
            remedy="Upgrade vecmigrate.",
        )
    return companion
