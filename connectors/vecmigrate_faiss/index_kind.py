"""What a kind of index is: a small JSON-able model that makes one like another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Self, TypeAlias

import faiss
from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.connector import Metric, Vectors

FaissIndex: TypeAlias = Any
"""A ``faiss.Index``; the type hints of FAISS know no attributes of its kinds."""

METRICS = {
    Metric.DOT: faiss.METRIC_INNER_PRODUCT,
    Metric.EUCLID: faiss.METRIC_L2,
    Metric.MANHATTAN: faiss.METRIC_L1,
    # FAISS has no cosine; the sink stores rows of unit length and marks the companion.
    Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
}

PositiveInt = Annotated[int, Field(gt=0)]


class IndexKind(BaseModel, ABC):
    """A kind of index with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keeps_ids: ClassVar[bool] = False
    """True where such an index stores any ids given to it, without an IDMap."""

    lossy: ClassVar[bool] = False
    """True where such an index stores codes, from which vectors come back changed."""

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

    def scaled(self, dimension: int) -> Self:
        """Return the kind with the parameters that follow the vectors' dimension."""
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
