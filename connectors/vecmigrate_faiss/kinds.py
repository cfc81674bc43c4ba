"""Kinds of index: what makes one like another, and how one is made.

A kind is a small JSON-able model that knows its words in FAISS's factory language, reads its
parameters from an index and makes an empty index with them. A new kind is a class here, its name
in :data:`KINDS` and :data:`Kind`, and its rows in ``layout``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import faiss
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from vecmigrate.connector import Metric, MismatchError, TargetSpec, Vectors

FaissIndex: TypeAlias = Any
"""A ``faiss.Index``; the type hints of FAISS know no attributes of its kinds."""

METRICS = {
    Metric.DOT: faiss.METRIC_INNER_PRODUCT,
    Metric.EUCLID: faiss.METRIC_L2,
    Metric.MANHATTAN: faiss.METRIC_L1,
    # FAISS has no cosine; the sink stores rows of unit length and marks the companion.
    Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
}

TRAINING_ROWS_PER_LIST = 64

PositiveInt = Annotated[int, Field(gt=0)]


class IndexKind(BaseModel, ABC):
    """A kind of index with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keeps_ids: ClassVar[bool] = False
    """True where such an index stores any ids given to it, without an IDMap."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The kind in FAISS's factory language."""

    @classmethod
    @abstractmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""

    @abstractmethod
    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        """Make an empty index."""

    def fitted(self, count: int) -> Self:
        """Return the kind with the parameters that ``count`` vectors allow."""
        return self

    @property
    def training_rows(self) -> int:
        """How many vectors :meth:`train` needs; 0 where it needs none."""
        return 0

    def train(self, index: FaissIndex, sample: Vectors) -> None:
        """Train an index made by :meth:`make` on ``(n, d)`` float32 vectors."""
        index.train(sample)

    def complete(self, index: FaissIndex) -> None:
        """Set what can be set only once the vectors are in."""

    def refusal(self, metric: Metric) -> str | None:
        """Say why there is no such index with this metric, or None."""
        return None


class FlatKind(IndexKind):
    """All vectors in a row, compared one by one."""

    kind: Literal["flat"] = "flat"

    @property
    def words(self) -> str:
        return "Flat"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        return cls()

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        return faiss.index_factory(dimension, self.words, METRICS[metric])


class HnswFlatKind(IndexKind):
    """A graph over vectors in a row."""

    kind: Literal["hnsw_flat"] = "hnsw_flat"
    m: PositiveInt
    ef_construction: PositiveInt
    ef_search: PositiveInt

    @property
    def words(self) -> str:
        return f"HNSW{self.m},Flat"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        hnsw = index.hnsw
        return cls(
            m=hnsw.nb_neighbors(1), ef_construction=hnsw.efConstruction, ef_search=hnsw.efSearch
        )

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        index = faiss.IndexHNSWFlat(dimension, self.m, METRICS[metric])
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.efSearch = self.ef_search
        return index


class IvfFlatKind(IndexKind):
    """Vectors in lists, one for each centroid."""

    keeps_ids: ClassVar[bool] = True

    kind: Literal["ivf_flat"] = "ivf_flat"
    nlist: PositiveInt
    nprobe: PositiveInt
    quantizer: FlatKind | HnswFlatKind = FlatKind()
    direct_map: Literal["array", "hashtable"] | None = None

    @property
    def words(self) -> str:
        graph = f"_HNSW{self.quantizer.m}" if isinstance(self.quantizer, HnswFlatKind) else ""
        return f"IVF{self.nlist}{graph},Flat"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        quantizer = faiss.downcast_index(index.quantizer)
        graph = isinstance(quantizer, faiss.IndexHNSWFlat)
        direct_map = index.direct_map
        names = {direct_map.Array: "array", direct_map.Hashtable: "hashtable"}
        return cls.model_validate(
            {
                "nlist": index.nlist,
                "nprobe": index.nprobe,
                "quantizer": HnswFlatKind.of(quantizer) if graph else FlatKind(),
                "direct_map": names.get(direct_map.type),
            }
        )

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        quantizer = self.quantizer.make(dimension, metric)
        index = faiss.IndexIVFFlat(quantizer, dimension, self.nlist, METRICS[metric])
        index.nprobe = self.nprobe
        # The list count is the source's choice: FAISS's advice on it, printed to stderr, is noise.
        index.cp.min_points_per_centroid = 1
        return index

    def fitted(self, count: int) -> Self:
        if self.nlist <= count:
            return self
        nlist = max(1, int(count**0.5))
        return self.model_copy(update={"nlist": nlist, "nprobe": min(self.nprobe, nlist)})

    @property
    def training_rows(self) -> int:
        return TRAINING_ROWS_PER_LIST * self.nlist

    def reuse(self, index: FaissIndex, centroids: Vectors) -> None:
        """Give an index made by :meth:`make` these ``(nlist, d)`` centroids, in place of training.

        Each point then stays in the list in which it was.
        """
        index.quantizer.add(centroids)
        index.is_trained = True

    def complete(self, index: FaissIndex) -> None:
        if self.direct_map == "array":
            # An array serves ids 0 to n-1 only; FAISS refuses it for any others.
            with suppress(RuntimeError):
                index.set_direct_map_type(index.direct_map.Array)
                return
        if self.direct_map is not None:
            index.set_direct_map_type(index.direct_map.Hashtable)

    def refusal(self, metric: Metric) -> str | None:
        if metric is Metric.MANHATTAN:
            return "FAISS trains IVF for L2 and inner product only"
        return None


KINDS: dict[str, type[IndexKind]] = {
    "IndexFlat": FlatKind,
    "IndexFlatL2": FlatKind,
    "IndexFlatIP": FlatKind,
    "IndexIVFFlat": IvfFlatKind,
    "IndexHNSWFlat": HnswFlatKind,
}
"""Kinds by the FAISS class; a derived class has another layout and is not looked up by its base."""

Kind = Annotated[FlatKind | IvfFlatKind | HnswFlatKind, Field(discriminator="kind")]


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
