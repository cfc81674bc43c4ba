"""Kinds of index that store codes of vectors."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import faiss

from vecmigrate.connector import Metric
from vecmigrate_faiss.index.base import METRICS, FaissIndex, IndexKind, PositiveInt
from vecmigrate_faiss.index.codes import (
    Codes,
    CodesInParts,
    GraphCodes,
    PqCodes,
    ResidualCodes,
    SqCodes,
    TwoLevelCodes,
    codes_of,
)
from vecmigrate_faiss.index.plain_kinds import FlatKind, HnswFlatKind, IvfFlatKind

_FEWEST_FOR_NSG = 200


class _Coded(IndexKind):
    lossy: ClassVar[bool] = True
    codes: Codes

    @property
    def parts(self) -> int | None:
        return self.codes.m if isinstance(self.codes, CodesInParts) else None

    def scaled(self, dimension: int) -> Self:
        return self.model_copy(update={"codes": self.codes.scaled(dimension)})

    def fitted(self, count: int) -> IndexKind:
        return self.model_copy(update={"codes": self.codes.fitted(count)})

    @property
    def training_rows(self) -> int:
        return self.codes.training_rows

    @property
    def _fast_scan(self) -> bool:
        return isinstance(self.codes, PqCodes) and self.codes.fast_scan

    def refusal(self, metric: Metric) -> str | None:
        if metric is Metric.MANHATTAN:
            return "codes are compared by L2 and inner product only"
        return None


class CodedKind(_Coded):
    """All codes in a row, compared one by one."""

    kind: Literal["coded"] = "coded"

    @property
    def words(self) -> str:
        return self.codes.words

    @property
    def copies_codes(self) -> bool:
        return not self._fast_scan

    @property
    def encodes_again_alike(self) -> bool:
        # The search for codewords is not exhaustive: it may miss those of a vector read back.
        return not isinstance(self.codes, ResidualCodes)

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        return cls(codes=codes_of(index))

    def configure(self, index: FaissIndex) -> None:
        if isinstance(self.codes, PqCodes) and self.codes.search_type:
            index.search_type = self.codes.search_type
            index.polysemous_ht = self.codes.polysemous_ht
            index.do_polysemous_training = True


class HnswCodedKind(_Coded):
    """A graph over codes in a row."""

    kind: Literal["hnsw_coded"] = "hnsw_coded"
    graph: HnswFlatKind

    @property
    def words(self) -> str:
        return f"HNSW{self.graph.m},{self.codes.words}"

    @property
    def search_parameter(self) -> str:
        return self.graph.search_parameter

    @property
    def encodes_again_alike(self) -> bool:
        return not isinstance(self.codes, TwoLevelCodes)

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        codes = codes_of(faiss.downcast_index(index.storage))
        return cls(codes=codes, graph=HnswFlatKind.of(index))

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        m, codes = self.graph.m, self.codes
        # FAISS's factory leaves the metric out.
        if isinstance(codes, PqCodes):
            index = faiss.IndexHNSWPQ(dimension, codes.m, m, codes.nbits, METRICS[metric])
        elif isinstance(codes, SqCodes):
            index = faiss.IndexHNSWSQ(dimension, codes.faiss_type, m, METRICS[metric])
        else:
            return super().make(dimension, metric)
        self.configure(index)
        return index

    def configure(self, index: FaissIndex) -> None:
        self.graph.configure(index)

    def refusal(self, metric: Metric) -> str | None:
        if isinstance(self.codes, TwoLevelCodes) and metric is not Metric.EUCLID:
            return "FAISS has it for L2 only"
        return super().refusal(metric)


class NsgKind(IndexKind):
    """A navigating spreading-out graph over vectors, or codes, in a row."""

    adds_at_once: ClassVar[bool] = True
    kind: Literal["nsg"] = "nsg"
    codes: GraphCodes | None = None
    r: PositiveInt
    gk: PositiveInt
    search_l: PositiveInt

    @property
    def words(self) -> str:
        return f"NSG{self.r},{self.codes.words if self.codes else 'Flat'}"

    @property
    def lossy(self) -> bool:
        return self.codes is not None

    @property
    def parts(self) -> int | None:
        return self.codes.m if isinstance(self.codes, PqCodes) else None

    @property
    def search_parameter(self) -> str:
        return f"search_L (now {self.search_l})"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        storage = faiss.downcast_index(index.storage)
        codes = None if isinstance(storage, faiss.IndexFlat) else codes_of(storage)
        return cls.model_validate(
            {"codes": codes, "r": index.nsg.R, "gk": index.GK, "search_l": index.nsg.search_L}
        )

    def configure(self, index: FaissIndex) -> None:
        index.GK = self.gk
        index.nsg.search_L = self.search_l

    def scaled(self, dimension: int) -> Self:
        codes = self.codes and self.codes.scaled(dimension)
        return self.model_copy(update={"codes": codes})

    def fitted(self, count: int) -> IndexKind:
        codes = self.codes and self.codes.fitted(count)
        if count < _FEWEST_FOR_NSG:
            return CodedKind(codes=codes) if codes else FlatKind()
        return self.model_copy(update={"codes": codes})

    @property
    def training_rows(self) -> int:
        return self.codes.training_rows if self.codes else 0

    def refusal(self, metric: Metric) -> str | None:
        if isinstance(self.codes, PqCodes) and metric is not Metric.EUCLID:
            return "FAISS has it for L2 only"
        if metric is Metric.MANHATTAN:
            return "FAISS builds the graph for L2 and inner product only"
        return None


class IvfCodedKind(_Coded):
    """Codes in lists, one for each centroid."""

    keeps_ids: ClassVar[bool] = True
    kind: Literal["ivf_coded"] = "ivf_coded"
    lists: IvfFlatKind
    by_residual: bool

    @property
    def words(self) -> str:
        residual = "r" if self._fast_scan and self.by_residual else ""
        return f"{self.lists.list_words},{self.codes.words}{residual}"

    @property
    def copies_codes(self) -> bool:
        return not self._fast_scan

    @property
    def encodes_again_alike(self) -> bool:
        # A vector read back may lie nearer to another list's centroid than to its own.
        return not self.by_residual and not isinstance(self.codes, ResidualCodes)

    @property
    def search_parameter(self) -> str:
        return self.lists.search_parameter

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        lists = IvfFlatKind.of(index)
        return cls(codes=codes_of(index), lists=lists, by_residual=index.by_residual)

    def configure(self, index: FaissIndex) -> None:
        self.lists.configure(index)
        index.by_residual = self.by_residual

    def fitted(self, count: int) -> IndexKind:
        update = {"codes": self.codes.fitted(count), "lists": self.lists.fitted(count)}
        return self.model_copy(update=update)

    @property
    def training_rows(self) -> int:
        return max(self.lists.training_rows, self.codes.training_rows)

    def complete(self, index: FaissIndex) -> None:
        self.lists.complete(index)
