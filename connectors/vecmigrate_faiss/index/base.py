"""What a kind of index is: a small JSON-able model that makes one like another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, TypeAlias

import faiss
from pydantic import BaseModel, ConfigDict, Field

from vecmigrate.connector import Metric, Vectors, are_unit_length

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


class UnknownKindError(Exception):
    """An index is of a kind that cannot be made anew; says what it "is" or "has"."""


class IndexKind(BaseModel, ABC):
    """A kind of index with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def words(self) -> str:
        """The kind in FAISS's factory language."""

    @property
    def keeps_ids(self) -> bool:
        """True if such an index stores any ids given to it, without an IDMap."""
        return False

    @property
    def lossy(self) -> bool:
        """True if vectors come back from such an index changed."""
        return False

    @property
    def normalizes(self) -> bool:
        """True if such an index itself scales vectors and queries to unit length."""
        return False

    @property
    def copies_codes(self) -> bool:
        """True if codes can go from one such index to another as they are."""
        return False

    @property
    def encodes_again_alike(self) -> bool:
        """True if a vector that was read back is stored exactly as it was before."""
        return True

    @property
    def adds_at_once(self) -> bool:
        """True if all vectors must be added in one call."""
        return False

    @property
    def parts(self) -> int | None:
        """Into how many parts a product quantizer cuts vectors, None if there is none."""
        return None

    @property
    def search_parameter(self) -> str | None:
        """Name what raises the recall of a search, with its value; None if it is exact."""
        return None

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        """Make an empty index."""
        index = faiss.index_factory(dimension, self.words, METRICS[metric])
        self.configure(index)
        return index

    def configure(self, index: FaissIndex) -> None:
        """Set what the factory's words do not tell."""

    def fitted(self, count: int) -> IndexKind:
        """Return the kind with the parameters that ``count`` vectors allow."""
        return self

    def scaled(self, dimension: int) -> IndexKind:
        """Return the kind with the parameters that follow the vectors' dimension."""
        return self

    @property
    def training_rows(self) -> int:
        """How many vectors training uses; 0 if there is none."""
        return 0

    def complete(self, index: FaissIndex) -> None:
        """Set what can be set only once the vectors are in."""

    def refusal(self, metric: Metric) -> str | None:
        """Say why there is no such index with this metric, or None."""
        return None


_ROUNDING = 1e-6
"""How far from 1 float32 arithmetic leaves the length of a vector that was scaled to it."""


def scaled_for(metric: Metric, vectors: Vectors) -> Vectors:
    """Return ``(n, d)`` vectors as an index with this metric is given them, a copy if changed."""
    if metric is not Metric.COSINE or are_unit_length(vectors, tolerance=_ROUNDING):
        return vectors
    vectors = vectors.copy()
    faiss.normalize_L2(vectors)
    return vectors


FAILURES = (RuntimeError, MemoryError)
"""What FAISS raises."""


def faiss_reason(error: BaseException) -> str:
    """Return the last part of a FAISS error's message, on one line."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    return " ".join(str(error).rpartition("Error: ")[2].split()) or type(error).__name__
