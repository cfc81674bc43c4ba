"""The marks that vecmigrate leaves in a collection's metadata: half written, or whole."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic.dataclasses import dataclass
from qdrant_client import models

from vecmigrate.connector import Provenance

METADATA_KEY, VECTORS_KEY = "vecmigrate", "vecmigrate_vectors"
LEASE_KEY = "vecmigrate_lease"
"""Of a collection; of a vector that is added to one, its name follows."""


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
        random if nothing is known of it.
    vector
        The name of the vector that it writes, by which the collection is opened if its URI
        names none; None in collections of earlier versions.
    indexing_threshold
        What was set in the collection before indexing was put off; None if it was not.
    work
        The :attr:`TargetSpec.work` of an unfinished one; None if it is not known.
    """

    state: State
    run: str = ""
    provenance: Provenance | None = None
    vector: str | None = None
    indexing_threshold: int | None = None
    work: str | None = None

    def as_metadata(self) -> dict[str, Any]:
        """The metadata that holds this mark, all of it: Qdrant merges by top-level keys."""
        return {METADATA_KEY: self.as_json()}

    def as_json(self) -> dict[str, Any]:
        """The mark itself."""
        found = _MARK.dump_python(self, mode="json")
        return {name: value for name, value in found.items() if value is not None}

    @field_validator("provenance", "vector", "indexing_threshold", "work", mode="wrap")
    @classmethod
    def _understood(cls, value: object, read: ValidatorFunctionWrapHandler) -> Any:
        """Take what another version may have written otherwise for what is not known."""
        try:
            return read(value)
        except ValidationError:
            return None


_MARK = TypeAdapter(Mark)


def read_mark(info: models.CollectionInfo) -> Mark | None:
    """Return the mark of a collection, or None if vecmigrate did not write it."""
    return _read((info.config.metadata or {}).get(METADATA_KEY))


def vector_marks(info: models.CollectionInfo) -> dict[str, Mark]:
    """Return the marks of vectors that were added in place, by their names."""
    found = (info.config.metadata or {}).get(VECTORS_KEY)
    marks = {name: _read(mark) for name, mark in found.items()} if isinstance(found, dict) else {}
    return {name: mark for name, mark in marks.items() if mark is not None}


def mark_of(info: models.CollectionInfo, vector: str) -> Mark | None:
    """Return the mark that counts for a vector: its own, else its collection's."""
    return vector_marks(info).get(vector) or read_mark(info)


def with_vector_mark(info: models.CollectionInfo, vector: str, mark: Mark | None) -> dict[str, Any]:
    """The metadata with a vector's mark set, or with None without it."""
    marks = {name: found for name, found in vector_marks(info).items() if name != vector}
    if mark is not None:
        marks[vector] = mark
    return {VECTORS_KEY: {name: found.as_json() for name, found in marks.items()}}


def settled(info: models.CollectionInfo, chosen: str) -> models.CollectionInfo:
    """Return a collection without the vectors that a run is adding now, but for the chosen one."""
    unfinished = {
        name
        for name, mark in vector_marks(info).items()
        if mark.state is State.WRITING and name != chosen
    }
    return without_vectors(info, unfinished)


def without_vectors(info: models.CollectionInfo, names: Collection[str]) -> models.CollectionInfo:
    """Return a collection without vectors of these names."""
    params = info.config.params
    if not names or not isinstance(params.vectors, dict):
        return info
    left = {name: found for name, found in params.vectors.items() if name not in names}
    config = info.config.model_copy(update={"params": params.model_copy(update={"vectors": left})})
    return info.model_copy(update={"config": config})


def foreign_metadata(info: models.CollectionInfo) -> dict[str, Any]:
    """Return a collection's metadata without vecmigrate's marks."""
    found = info.config.metadata or {}
    ours = {METADATA_KEY, VECTORS_KEY, *(key for key in found if key.startswith(LEASE_KEY))}
    return {key: value for key, value in found.items() if key not in ours}


def _read(found: object) -> Mark | None:
    try:
        return _MARK.validate_python(found)
    except ValidationError:
        return None
