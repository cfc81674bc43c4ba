"""Kinds of index that store codes of vectors: scalar (SQ) and product quantizers (PQ)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import faiss
from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.connector import Metric
from vecmigrate_faiss.index_kind import METRICS, FaissIndex, IndexKind, PositiveInt
from vecmigrate_faiss.plain_kinds import HnswFlatKind, IvfFlatKind

_SQ_TYPES = {
    "SQ8": faiss.ScalarQuantizer.QT_8bit,
    "SQ6": faiss.ScalarQuantizer.QT_6bit,
    "SQ4": faiss.ScalarQuantizer.QT_4bit,
    "SQfp16": faiss.ScalarQuantizer.QT_fp16,
    "SQbf16": faiss.ScalarQuantizer.QT_bf16,
}
_SQ_TRAINING_ROWS = 100_000
_PQ_ROWS_PER_CENTROID = 256


class SqCodes(BaseModel):
    """Each component by itself in a few bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codes: Literal["sq"] = "sq"
    words: Literal["SQ8", "SQ6", "SQ4", "SQfp16", "SQbf16"]

    @property
    def training_rows(self) -> int:
        """How many vectors training uses."""
        return _SQ_TRAINING_ROWS

    def scaled(self, dimension: int) -> Self:
        """Return the same: nothing follows the dimension."""
        return self

    def fitted(self, count: int) -> Self:
        """Return the same: any count will do."""
        return self


class PqCodes(BaseModel):
    """Parts of ``width`` components, each as the number of one of ``2**nbits`` centroids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codes: Literal["pq"] = "pq"
    m: PositiveInt
    nbits: Annotated[int, Field(gt=0, le=16)]
    width: PositiveInt

    @property
    def words(self) -> str:
        """The codes in FAISS's factory language."""
        return f"PQ{self.m}x{self.nbits}"

    @property
    def training_rows(self) -> int:
        """How many vectors training uses."""
        return int(_PQ_ROWS_PER_CENTROID << self.nbits)

    def scaled(self, dimension: int) -> Self:
        """Keep the components per part; the part count is the divisor nearest to that."""
        divisors = [m for m in range(1, dimension + 1) if dimension % m == 0]
        m = min(divisors, key=lambda divisor: abs(divisor - dimension / self.width))
        return self.model_copy(update={"m": m, "width": dimension // m})

    def fitted(self, count: int) -> Self:
        """Have no more centroids than there are vectors to train on."""
        nbits = min(self.nbits, max(1, count.bit_length() - 1))
        return self.model_copy(update={"nbits": nbits})


Codes = Annotated[SqCodes | PqCodes, Field(discriminator="codes")]


def _codes_of(index: FaissIndex) -> SqCodes | PqCodes:
    if hasattr(index, "pq"):
        return PqCodes(m=index.pq.M, nbits=index.pq.nbits, width=index.pq.dsub)
    names = {number: name for name, number in _SQ_TYPES.items()}
    qtype = index.sq.qtype
    if qtype not in names:
        raise RuntimeError(f"its scalar quantizer type {qtype} is not supported")
    return SqCodes.model_validate({"words": names[qtype]})


class CodedKind(IndexKind):
    """All codes in a row, compared one by one."""

    lossy: ClassVar[bool] = True

    kind: Literal["coded"] = "coded"
    codes: Codes

    @property
    def words(self) -> str:
        return self.codes.words

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        return cls(codes=_codes_of(index))

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        return faiss.index_factory(dimension, self.words, METRICS[metric])

    def scaled(self, dimension: int) -> Self:
        return self.model_copy(update={"codes": self.codes.scaled(dimension)})

    def fitted(self, count: int) -> Self:
        return self.model_copy(update={"codes": self.codes.fitted(count)})

    @property
    def training_rows(self) -> int:
        return self.codes.training_rows

    def refusal(self, metric: Metric) -> str | None:
        if metric is Metric.MANHATTAN:
            return "codes are compared by L2 and inner product only"
        return None


class HnswCodedKind(CodedKind):
    """A graph over codes in a row."""

    kind: Literal["hnsw_coded"] = "hnsw_coded"  # type: ignore[assignment]
    graph: HnswFlatKind

    @property
    def ef_search(self) -> int:
        """How many candidates a search keeps."""
        return self.graph.ef_search

    @property
    def words(self) -> str:
        return f"HNSW{self.graph.m},{self.codes.words}"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        codes = _codes_of(faiss.downcast_index(index.storage))
        return cls(codes=codes, graph=HnswFlatKind.of(index))

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        m, codes = self.graph.m, self.codes
        # The type hints of FAISS do not have these constructors.
        hnsw_pq: FaissIndex = faiss.IndexHNSWPQ
        hnsw_sq: FaissIndex = faiss.IndexHNSWSQ
        index: FaissIndex
        if isinstance(codes, PqCodes):
            index = hnsw_pq(dimension, codes.m, m, codes.nbits, METRICS[metric])
        else:
            index = hnsw_sq(dimension, _SQ_TYPES[codes.words], m, METRICS[metric])
        index.hnsw.efConstruction = self.graph.ef_construction
        index.hnsw.efSearch = self.graph.ef_search
        return index


class IvfCodedKind(CodedKind):
    """Codes in lists, one for each centroid."""

    keeps_ids: ClassVar[bool] = True

    kind: Literal["ivf_coded"] = "ivf_coded"  # type: ignore[assignment]
    lists: IvfFlatKind
    by_residual: bool

    @property
    def nprobe(self) -> int:
        """How many lists a search looks into."""
        return self.lists.nprobe

    @property
    def nlist(self) -> int:
        """How many lists there are."""
        return self.lists.nlist

    @property
    def words(self) -> str:
        return f"{self.lists.words.removesuffix('Flat')}{self.codes.words}"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        lists = IvfFlatKind.of(index)
        return cls(codes=_codes_of(index), lists=lists, by_residual=index.by_residual)

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        quantizer = self.lists.quantizer.make(dimension, metric)
        at, codes = (quantizer, dimension, self.nlist), self.codes
        index: FaissIndex
        if isinstance(codes, PqCodes):
            index = faiss.IndexIVFPQ(*at, codes.m, codes.nbits, METRICS[metric])
        else:
            index = faiss.IndexIVFScalarQuantizer(*at, _SQ_TYPES[codes.words], METRICS[metric])
        index.by_residual = self.by_residual
        index.nprobe = self.nprobe
        index.cp.min_points_per_centroid = 1
        return index

    def fitted(self, count: int) -> Self:
        update = {"codes": self.codes.fitted(count), "lists": self.lists.fitted(count)}
        return self.model_copy(update=update)

    @property
    def training_rows(self) -> int:
        return max(self.lists.training_rows, self.codes.training_rows)

    def complete(self, index: FaissIndex) -> None:
        self.lists.complete(index)
