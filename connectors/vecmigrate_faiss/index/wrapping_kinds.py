"""Kinds of index around another one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import faiss
from pydantic import Field

from vecmigrate.connector import Metric
from vecmigrate_faiss.index.base import FaissIndex, IndexKind
from vecmigrate_faiss.index.coded_kinds import CodedKind, HnswCodedKind, IvfCodedKind, NsgKind
from vecmigrate_faiss.index.plain_kinds import FlatKind, HnswFlatKind, IvfFlatKind
from vecmigrate_faiss.index.transforms import Normalization, Opq, Transform


class _Around(IndexKind):
    index: Kind

    @property
    def adds_at_once(self) -> bool:
        return self.index.adds_at_once

    @property
    def parts(self) -> int | None:
        return self.index.parts


class PreTransformKind(_Around):
    """Vectors transformed before another index stores them."""

    kind: Literal["pre_transform"] = "pre_transform"
    transforms: tuple[Transform, ...]

    @property
    def words(self) -> str:
        return ",".join([*(transform.words for transform in self.transforms), self.index.words])

    @property
    def keeps_ids(self) -> bool:
        return self.index.keeps_ids

    @property
    def lossy(self) -> bool:
        return self.index.lossy or any(transform.lossy for transform in self.transforms)

    @property
    def normalizes(self) -> bool:
        return any(isinstance(transform, Normalization) for transform in self.transforms)

    @property
    def copies_codes(self) -> bool:
        return self.index.copies_codes

    @property
    def encodes_again_alike(self) -> bool:
        return self.index.encodes_again_alike

    @property
    def search_parameter(self) -> str | None:
        return self.index.search_parameter

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        index = faiss.IndexPreTransform(self.index.make(self.transforms[-1].d_out, metric))
        for transform in reversed(self.transforms):
            index.prepend_transform(transform.make())
        return index

    def scaled(self, dimension: int) -> Self:
        transforms = []
        for transform in self.transforms:
            transforms.append(transform.scaled(dimension))
            dimension = transforms[-1].d_out
        return self._around(self.index.scaled(dimension), transforms)

    def fitted(self, count: int) -> Self:
        return self._around(self.index.fitted(count), self.transforms)

    @property
    def training_rows(self) -> int:
        # PCA wants some multiple of the dimension; OPQ as many as its product quantizer.
        return max(self.index.training_rows, 256 * max(t.d_in for t in self.transforms))

    def complete(self, index: FaissIndex) -> None:
        self.index.complete(faiss.downcast_index(index.index))

    def refusal(self, metric: Metric) -> str | None:
        return self.index.refusal(metric)

    def _around(self, index: IndexKind, transforms: object) -> Self:
        """Return the same around ``index``, OPQ having as many parts as its product quantizer."""
        changed = self.model_copy(update={"index": index, "transforms": transforms})
        if index.parts is None:
            return changed
        matched = tuple(
            t.model_copy(update={"m": index.parts}) if isinstance(t, Opq) else t
            for t in changed.transforms
        )
        return changed.model_copy(update={"transforms": matched})


class RefineKind(_Around):
    """An index that finds candidates, and another one that ranks them by better vectors."""

    kind: Literal["refine"] = "refine"
    refine: FlatKind | CodedKind
    k_factor: float

    @property
    def words(self) -> str:
        flat = isinstance(self.refine, FlatKind)
        return f"{self.index.words},{'RFlat' if flat else f'Refine({self.refine.words})'}"

    @property
    def lossy(self) -> bool:
        return self.refine.lossy

    @property
    def encodes_again_alike(self) -> bool:
        return self.refine.encodes_again_alike

    @property
    def search_parameter(self) -> str:
        own = self.index.search_parameter
        return f"k_factor (now {self.k_factor:g}){f' or {own}' if own else ''}"

    def make(self, dimension: int, metric: Metric) -> FaissIndex:
        base = self.index.make(dimension, metric)
        if isinstance(self.refine, FlatKind):
            index: FaissIndex = faiss.IndexRefineFlat(base)
        else:
            index = faiss.IndexRefine(base, self.refine.make(dimension, metric))
        index.k_factor = self.k_factor
        return index

    def scaled(self, dimension: int) -> Self:
        index, refine = self.index.scaled(dimension), self.refine.scaled(dimension)
        return self.model_copy(update={"index": index, "refine": refine})

    def fitted(self, count: int) -> Self:
        index, refine = self.index.fitted(count), self.refine.fitted(count)
        return self.model_copy(update={"index": index, "refine": refine})

    @property
    def training_rows(self) -> int:
        return max(self.index.training_rows, self.refine.training_rows)

    def complete(self, index: FaissIndex) -> None:
        self.index.complete(faiss.downcast_index(index.base_index))

    def refusal(self, metric: Metric) -> str | None:
        return self.index.refusal(metric) or self.refine.refusal(metric)


Kind = Annotated[
    FlatKind
    | IvfFlatKind
    | HnswFlatKind
    | NsgKind
    | CodedKind
    | IvfCodedKind
    | HnswCodedKind
    | PreTransformKind
    | RefineKind,
    Field(discriminator="kind"),
]
PreTransformKind.model_rebuild()
RefineKind.model_rebuild()
