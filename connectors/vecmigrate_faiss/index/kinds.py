"""From an index to the recipe that makes one like it, and back.

A new kind is a class in one of the ``*_kinds`` modules, its name in :data:`KINDS` and
:data:`~vecmigrate_faiss.index.wrapping_kinds.Kind`, and its rows in ``walking``.
"""

from __future__ import annotations

from typing import Literal, Protocol

import faiss
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vecmigrate.connector import MismatchError, TargetSpec, UsageError, told_as
from vecmigrate_faiss.index.base import (
    FAILURES,
    METRICS,
    FaissIndex,
    IndexKind,
    UnknownKindError,
    faiss_reason,
)
from vecmigrate_faiss.index.coded_kinds import CodedKind, HnswCodedKind, IvfCodedKind, NsgKind
from vecmigrate_faiss.index.codes import SQ_TYPES, sq_words
from vecmigrate_faiss.index.plain_kinds import FlatKind, HnswFlatKind, IvfFlatKind
from vecmigrate_faiss.index.transforms import transform_of
from vecmigrate_faiss.index.wrapping_kinds import Kind, PreTransformKind, RefineKind

READABLE = (
    "Flat, SQ, PQ and residual quantizers can be read, plain or in IVF, and Flat, SQ and PQ in "
    "HNSW or NSG, also behind OPQ, PCA or L2norm, refined, and with IDMap"
)
_ID_MAPS = {"IndexIDMap": "IDMap", "IndexIDMap2": "IDMap2"}


class _Reader(Protocol):
    def of(self, index: FaissIndex) -> IndexKind: ...


KINDS: dict[str, _Reader] = {
    "IndexFlat": FlatKind,
    "IndexFlatL2": FlatKind,
    "IndexFlatIP": FlatKind,
    "IndexIVFFlat": IvfFlatKind,
    "IndexHNSWFlat": HnswFlatKind,
    "IndexNSGFlat": NsgKind,
    "IndexScalarQuantizer": CodedKind,
    "IndexPQ": CodedKind,
    "IndexPQFastScan": CodedKind,
    "IndexResidualQuantizer": CodedKind,
    "IndexProductResidualQuantizer": CodedKind,
    "IndexIVFScalarQuantizer": IvfCodedKind,
    "IndexIVFPQ": IvfCodedKind,
    "IndexIVFPQFastScan": IvfCodedKind,
    "IndexIVFResidualQuantizer": IvfCodedKind,
    "IndexIVFProductResidualQuantizer": IvfCodedKind,
    "IndexHNSWSQ": HnswCodedKind,
    "IndexHNSWPQ": HnswCodedKind,
    "IndexHNSW2Level": HnswCodedKind,
    "IndexNSGSQ": NsgKind,
    "IndexNSGPQ": NsgKind,
}
"""Kinds by the FAISS class; a derived class has another layout and is not looked up by its base."""


def settings_of(index: FaissIndex) -> IndexSettings:
    """Read the recipe of an index.

    Raises
    ------
    UnknownKindError
        If it is of a kind that cannot be read or made anew.
    """
    id_map = _ID_MAPS.get(type(index).__name__)
    inner = faiss.downcast_index(index.index) if id_map else index
    if isinstance(inner, faiss.IndexPreTransform):
        # Ids that are mapped behind the transformations might as well be mapped before them.
        id_map = id_map or _ID_MAPS.get(type(faiss.downcast_index(inner.index)).__name__)
    return IndexSettings.model_validate({"index": _kind_of(inner), "id_map": id_map})


def _kind_of(index: FaissIndex) -> IndexKind:
    name = type(index).__name__
    if name == "IndexPreTransform":
        inner = faiss.downcast_index(index.index)
        if type(inner).__name__ in _ID_MAPS:
            inner = faiss.downcast_index(inner.index)
        kind = _kind_of(inner)
        chain = [index.chain.at(i) for i in range(index.chain.size())]
        transforms = [transform_of(transform, kind.parts) for transform in chain]
        return PreTransformKind.model_validate({"transforms": transforms, "index": kind})
    if name in ("IndexRefine", "IndexRefineFlat"):
        return RefineKind.model_validate(
            {
                "index": _kind_of(faiss.downcast_index(index.base_index)),
                "refine": _kind_of(faiss.downcast_index(index.refine_index)),
                "k_factor": index.k_factor,
            }
        )
    if name == "IndexHNSW" and isinstance(faiss.downcast_index(index.storage), faiss.Index2Layer):
        # FAISS's binding does not tell this class from its base.
        name = "IndexHNSW2Level"
    reader = KINDS.get(name)
    if reader is None:
        raise UnknownKindError(f"is of the FAISS type {name}")
    return reader.of(index)


def notes_on(index: FaissIndex) -> tuple[str, ...]:
    """Return what a copy of an index will have otherwise."""
    notes: list[str] = []
    for part in parts_of(index):
        if isinstance(part, faiss.IndexIVF):
            quantizer = faiss.downcast_index(part.quantizer)
            if not isinstance(quantizer, faiss.IndexFlat | faiss.IndexHNSWFlat):
                notes.append(
                    f"its coarse quantizer {type(quantizer).__name__} becomes a Flat one in a "
                    "copy, the list count being kept"
                )
            if isinstance(faiss.downcast_InvertedLists(part.invlists), faiss.OnDiskInvertedLists):
                notes.append("its lists, which are in a file of their own, will be in the index")
        qtype = part.sq.qtype if hasattr(part, "sq") else None
        if qtype is not None and qtype not in SQ_TYPES.values():
            notes.append(f"its scalar quantizer becomes {sq_words(qtype)} in a copy")
    return tuple(notes)


def parts_of(index: FaissIndex) -> list[FaissIndex]:
    """Return an index and those that it is made of."""
    inner = [getattr(index, name, None) for name in ("index", "base_index", "refine_index")]
    inner.append(getattr(index, "storage", None))
    return [
        index,
        *(part for i in inner if i is not None for part in parts_of(faiss.downcast_index(i))),
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
            If the settings are not of this connector, or FAISS has no such index.
        """
        if spec.store != "faiss" or not spec.settings:
            return cls(index=FlatKind(), id_map="IDMap2")
        with told_as(
            MismatchError,
            "the settings for a FAISS index are not understood",
            "Take them from the description of a FAISS source.",
            (ValidationError,),
        ):
            settings = cls.model_validate(spec.settings)
        if reason := settings.index.refusal(spec.metric):
            raise MismatchError(
                f"there is no {settings.words} index with the metric {spec.metric}: {reason}",
                remedy="Choose another metric or kind of index.",
            )
        return settings

    @classmethod
    def from_words(cls, words: str, spec: TargetSpec) -> IndexSettings:
        """Return the settings of an index in FAISS's factory language.

        Raises
        ------
        UsageError
            If FAISS has no such index for the dimension and metric, or it cannot be read back.
        """
        remedy = f"Write it as faiss.index_factory takes it. {READABLE}."
        impossible = (
            f"?index={words}: FAISS cannot make it for {spec.dimension} dimensions and the metric "
            f"{spec.metric}"
        )
        try:
            with told_as(UsageError, impossible, remedy, FAILURES, faiss_reason):
                index = faiss.index_factory(spec.dimension, words, METRICS[spec.metric])
                settings = settings_of(index)
        except UnknownKindError as error:
            raise UsageError(
                f"?index={words}: it {error}, which is not supported", remedy=remedy
            ) from error
        if reason := settings.index.refusal(spec.metric):
            raise UsageError(
                f"?index={words}: there is none with the metric {spec.metric}: {reason}",
                remedy=remedy,
            )
        return settings
