"""Kinds of index that store vectors as they are."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar, Literal, Self

import faiss

from vecmigrate.connector import Metric
from vecmigrate_faiss.index.base import FaissIndex, IndexKind, PositiveInt

TRAINING_ROWS_PER_LIST = 64


class FlatKind(IndexKind):
    """All vectors in a row, compared one by one."""

    words: ClassVar[str] = "Flat"
    copies_codes: ClassVar[bool] = True
    kind: Literal["flat"] = "flat"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        return cls()


class HnswFlatKind(IndexKind):
    """A graph over vectors in a row."""

    kind: Literal["hnsw_flat"] = "hnsw_flat"
    m: PositiveInt
    ef_construction: PositiveInt
    ef_search: PositiveInt

    @property
    def words(self) -> str:
        return f"HNSW{self.m},Flat"

    @property
    def search_parameter(self) -> str:
        return f"efSearch (now {self.ef_search})"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
        hnsw = index.hnsw
        return cls(
            m=hnsw.nb_neighbors(1), ef_construction=hnsw.efConstruction, ef_search=hnsw.efSearch
        )

    def configure(self, index: FaissIndex) -> None:
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.efSearch = self.ef_search


class IvfFlatKind(IndexKind):
    """Vectors in lists, one for each centroid."""

    copies_codes: ClassVar[bool] = True
    keeps_ids: ClassVar[bool] = True
    kind: Literal["ivf_flat"] = "ivf_flat"
    nlist: PositiveInt
    nprobe: PositiveInt
    quantizer: FlatKind | HnswFlatKind = FlatKind()
    direct_map: Literal["array", "hashtable"] | None = None

    @property
    def words(self) -> str:
        return f"{self.list_words},Flat"

    @property
    def list_words(self) -> str:
        """The lists, without what they hold, in FAISS's factory language."""
        graph = f"_HNSW{self.quantizer.m}" if isinstance(self.quantizer, HnswFlatKind) else ""
        return f"IVF{self.nlist}{graph}"

    @property
    def search_parameter(self) -> str:
        return f"nprobe (now {self.nprobe} of {self.nlist} lists)"

    @classmethod
    def of(cls, index: FaissIndex) -> Self:
        """Read the parameters of an index."""
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

    def configure(self, index: FaissIndex) -> None:
        index.nprobe = self.nprobe
        # The list count is the source's choice: FAISS's advice on it, printed to stderr, is noise.
        index.cp.min_points_per_centroid = 1
        if isinstance(self.quantizer, HnswFlatKind):
            self.quantizer.configure(faiss.downcast_index(index.quantizer))

    def fitted(self, count: int) -> Self:
        if self.nlist <= count:
            return self
        nlist = max(1, int(count**0.5))
        return self.model_copy(update={"nlist": nlist, "nprobe": min(self.nprobe, nlist)})

    @property
    def training_rows(self) -> int:
        return TRAINING_ROWS_PER_LIST * self.nlist

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
