"""What an index does to vectors before it stores them, and the rules by which that scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import faiss
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vecmigrate_faiss.index.base import FaissIndex, PositiveInt, UnknownKindError


class _Transform(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid")

    d_in: PositiveInt
    d_out: PositiveInt

    @property
    @abstractmethod
    def words(self) -> str:
        """The transformation in FAISS's factory language."""

    @abstractmethod
    def make(self) -> FaissIndex:
        """Make one, untrained."""

    def scaled(self, d_in: int) -> Self:
        """Keep the output's dimension where it was chosen, which is where it is smaller."""
        d_out = d_in if self.d_out == self.d_in else min(self.d_out, d_in)
        return self.model_copy(update={"d_in": d_in, "d_out": d_out})

    @property
    def lossy(self) -> bool:
        """True if vectors come back changed."""
        return self.d_out < self.d_in


class Normalization(_Transform):
    """Unit length."""

    words: ClassVar[str] = "L2norm"
    transform: Literal["l2norm"] = "l2norm"

    def make(self) -> FaissIndex:
        return faiss.NormalizationTransform(self.d_in)


class Rotation(_Transform):
    """A random rotation, of which the first components are kept."""

    transform: Literal["rotation"] = "rotation"

    @property
    def words(self) -> str:
        return f"RR{self.d_out}"

    def make(self) -> FaissIndex:
        return faiss.RandomRotationMatrix(self.d_in, self.d_out)


class Pca(_Transform):
    """Principal components, scaled by a power of their eigenvalues (-0.5 whitens)."""

    transform: Literal["pca"] = "pca"
    eigen_power: float = 0.0
    random_rotation: bool = False

    @property
    def words(self) -> str:
        whitened, rotated = "W" * bool(self.eigen_power), "R" * self.random_rotation
        return f"PCA{whitened}{rotated}{self.d_out}"

    def make(self) -> FaissIndex:
        return faiss.PCAMatrix(self.d_in, self.d_out, self.eigen_power, self.random_rotation)


class Opq(_Transform):
    """A rotation learned for the product quantizer of ``m`` parts that follows."""

    transform: Literal["opq"] = "opq"
    m: PositiveInt

    @property
    def words(self) -> str:
        return f"OPQ{self.m}_{self.d_out}"

    def make(self) -> FaissIndex:
        matrix = faiss.OPQMatrix(self.d_in, self.m, self.d_out)
        # The one that it would make itself, but for its warnings if there are few vectors.
        quantizer = faiss.ProductQuantizer(self.d_out, self.m, 8)
        quantizer.cp.min_points_per_centroid = 1
        matrix.pq = quantizer
        matrix.referenced_objects = [quantizer]
        return matrix


class Padding(_Transform):
    """Zeros at the end."""

    transform: Literal["padding"] = "padding"

    @property
    def words(self) -> str:
        return f"Pad{self.d_out}"

    def make(self) -> FaissIndex:
        return faiss.RemapDimensionsTransform(self.d_in, self.d_out, False)

    def scaled(self, d_in: int) -> Self:
        """Keep the number of zeros."""
        return self.model_copy(update={"d_in": d_in, "d_out": d_in + self.d_out - self.d_in})


Transform = Annotated[
    Normalization | Rotation | Pca | Opq | Padding, Field(discriminator="transform")
]


def transform_of(
    transform: FaissIndex, parts: int | None
) -> Normalization | Rotation | Pca | Opq | Padding:
    """Read the parameters of a transformation.

    Parameters
    ----------
    parts
        Of the product quantizer that follows, if any: a file does not tell an OPQ matrix from any
        other linear map.

    Raises
    ------
    UnknownKindError
        If it cannot be trained anew.
    """
    found = faiss.downcast_VectorTransform(transform)
    d_in, d_out = found.d_in, found.d_out
    if isinstance(found, faiss.NormalizationTransform) and found.norm == 2:
        return Normalization(d_in=d_in, d_out=d_out)
    if isinstance(found, faiss.RandomRotationMatrix):
        return Rotation(d_in=d_in, d_out=d_out)
    if isinstance(found, faiss.PCAMatrix):
        return Pca(
            d_in=d_in,
            d_out=d_out,
            eigen_power=found.eigen_power,
            random_rotation=found.random_rotation,
        )
    if isinstance(found, faiss.OPQMatrix):
        return Opq(d_in=d_in, d_out=d_out, m=found.M)
    if type(found) is faiss.LinearTransform and parts and _is_orthonormal(found):
        return Opq(d_in=d_in, d_out=d_out, m=parts)
    if isinstance(found, faiss.RemapDimensionsTransform) and _pads(found):
        return Padding(d_in=d_in, d_out=d_out)
    raise UnknownKindError(
        f"has a {type(found).__name__} before it, for which the recipe is not known"
    )


def _is_orthonormal(found: FaissIndex) -> bool:
    if found.have_bias:
        return False
    matrix = faiss.vector_to_array(found.A).reshape(found.d_out, found.d_in)
    return np.allclose(matrix @ matrix.T, np.eye(found.d_out), atol=1e-3)


def _pads(found: FaissIndex) -> bool:
    places = faiss.vector_to_array(found.map)
    kept = np.arange(min(found.d_in, found.d_out))
    return found.d_out >= found.d_in and np.array_equal(places[: len(kept)], kept)
