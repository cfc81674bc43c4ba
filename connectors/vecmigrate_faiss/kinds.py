"""The kinds of index by name, and the settings of an index made of one.

A new kind is a class in ``plain_kinds`` or ``coded_kinds``, its name in :data:`KINDS` and
:data:`Kind`, and its rows in ``layout``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from vecmigrate.connector import MismatchError, TargetSpec
from vecmigrate_faiss.coded_kinds import CodedKind, HnswCodedKind, IvfCodedKind
from vecmigrate_faiss.index_kind import FaissIndex, IndexKind
from vecmigrate_faiss.plain_kinds import FlatKind, HnswFlatKind, IvfFlatKind

__all__ = [
    "KINDS",
    "FaissIndex",
    "FlatKind",
    "HnswFlatKind",
    "IndexKind",
    "IndexSettings",
    "IvfFlatKind",
    "Kind",
]

KINDS: dict[str, type[IndexKind]] = {
    "IndexFlat": FlatKind,
    "IndexFlatL2": FlatKind,
    "IndexFlatIP": FlatKind,
    "IndexIVFFlat": IvfFlatKind,
    "IndexHNSWFlat": HnswFlatKind,
    "IndexScalarQuantizer": CodedKind,
    "IndexPQ": CodedKind,
    "IndexIVFScalarQuantizer": IvfCodedKind,
    "IndexIVFPQ": IvfCodedKind,
    "IndexHNSWSQ": HnswCodedKind,
    "IndexHNSWPQ": HnswCodedKind,
}
"""Kinds by the FAISS class; a derived class has another layout and is not looked up by its base."""

Kind = Annotated[
    FlatKind | IvfFlatKind | HnswFlatKind | CodedKind | IvfCodedKind | HnswCodedKind,
    Field(discriminator="kind"),
]


class IndexSettings(BaseModel):
    """What a FAISS sink needs to make an index alike; ``settings`` of a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Kind
    id_map: Literal["IDMap", "IDMap2"] | None = None

    @property
    def words(self) -> str:
        """The index in FAISS's factory language."""
        return f"{self.id_map},{self.index.words}" if self.id_map else self.index.words

    def as_json(self) -> dict[str, JsonValue]:
        """Return the model as JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def for_spec(cls, spec: TargetSpec) -> IndexSettings:
        """Return the settings of a FAISS source, or Flat with IDMap2 for any other one.

        Raises
        ------
        MismatchError
            Where the settings are not of this connector, or FAISS has no such index.
        """
        if spec.store != "faiss" or not spec.settings:
            return cls(index=FlatKind(), id_map="IDMap2")
        try:
            settings = cls.model_validate(spec.settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise MismatchError(
                f"the settings for a FAISS index are not understood: {where}: {first['msg']}",
                remedy="Take them from the description of a FAISS source.",
            ) from error
        if reason := settings.index.refusal(spec.metric):
            raise MismatchError(
                f"there is no {settings.words} index with the metric {spec.metric}: {reason}",
                remedy="Choose another metric or kind of index.",
            )
        return settings
