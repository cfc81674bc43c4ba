"""The mark that vecmigrate leaves in a collection's metadata: half written, or whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from vecmigrate.connector import Provenance

METADATA_KEY = "vecmigrate"


class State(StrEnum):
    """How far a collection that vecmigrate writes has come."""

    WRITING = "writing"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who writes a collection and how far it has come.

    Attributes
    ----------
    run
        Tells a run's own collection from another one's of that name: :meth:`Provenance.run`, or
        random where nothing is known of it.
    vector
        The name of the vector that it writes, by which the collection is opened where its URI
        names none; None in collections of earlier versions.
    """

    state: State
    run: str
    provenance: Provenance | None = None
    vector: str | None = None

    def as_metadata(self) -> dict[str, Any]:
        """The metadata that holds this mark, all of it: Qdrant merges by top-level keys."""
        mark: dict[str, Any] = {"state": self.state.value, "run": self.run}
        if self.provenance is not None:
            mark["provenance"] = self.provenance.model_dump(mode="json")
        if self.vector is not None:
            mark["vector"] = self.vector
        return {METADATA_KEY: mark}


def read_mark(info: models.CollectionInfo) -> Mark | None:
    """Return the mark of a collection, or None where vecmigrate did not write it."""
    found = (info.config.metadata or {}).get(METADATA_KEY)
    if not isinstance(found, dict):
        return None
    try:
        state = State(str(found.get("state")))
    except ValueError:
        return None
    try:
        provenance = Provenance.model_validate(found.get("provenance"))
    except ValidationError:
        provenance = None
    vector = found.get("vector")
    return Mark(
        state,
        str(found.get("run", "")),
        provenance,
        vector if isinstance(vector, str) else None,
    )


def foreign_metadata(info: models.CollectionInfo) -> dict[str, Any]:
    """Return a collection's metadata without vecmigrate's mark."""
    return {k: v for k, v in (info.config.metadata or {}).items() if k != METADATA_KEY}
