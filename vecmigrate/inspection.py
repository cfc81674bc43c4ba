"""What is in a collection: its description, and statistics of its vectors in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from vecmigrate.connector.source import Source
from vecmigrate.points.batch import UNIT_TOLERANCE, Vectors, row_norms
from vecmigrate.points.collection import CollectionDescription

READ_BATCH = 8192


class VectorStatistics(BaseModel):
    """Of the vectors read.

    Attributes
    ----------
    read
        Vectors read; the shares are of these.
    norm_mean, norm_std, norm_min, norm_max
        Of the lengths of finite vectors; None where there are none.
    unit_share, zero_share, nan_share
        Vectors of length 1 (within float16's rounding), of length 0, and not finite.
    duplicate_share
        Vectors equal to one before them.
    """

    read: int
    norm_mean: float | None
    norm_std: float | None
    norm_min: float | None
    norm_max: float | None
    unit_share: float
    zero_share: float
    nan_share: float
    duplicate_share: float


class Inspection(BaseModel):
    """A description with statistics."""

    collection: CollectionDescription
    vectors: VectorStatistics


def inspect(
    source: Source, *, limit: int | None = None, progress: Callable[[int], None] | None = None
) -> Inspection:
    """Describe a collection and read its vectors, or the first ``limit``, once.

    Memory is 12 bytes a vector read: its length, and a 64-bit hash that finds duplicates.
    """
    norms: list[NDArray[np.floating]] = []
    hashes: list[NDArray[np.uint64]] = []
    read = 0
    several = source.describe().multivector
    batches = (
        source.whole_batches(READ_BATCH) if several else source.batches(READ_BATCH, payloads=False)
    )
    for batch in batches:
        vectors = batch.vectors if limit is None else batch.vectors[: limit - read]
        norms.append(row_norms(vectors))
        hashes.append(_row_hashes(vectors))
        read += len(vectors)
        if progress is not None:
            progress(len(vectors))
        if limit is not None and read >= limit:
            break
    return Inspection(collection=source.describe(), vectors=_statistics(norms, hashes))


def _statistics(
    norm_parts: list[NDArray[np.floating]], hash_parts: list[NDArray[np.uint64]]
) -> VectorStatistics:
    norms = np.concatenate([np.empty(0, np.float32), *norm_parts])
    hashes = np.concatenate([np.empty(0, np.uint64), *hash_parts])
    finite = norms[np.isfinite(norms)].astype(np.float64)

    def share(count: int) -> float:
        return count / len(norms) if len(norms) else 0.0

    return VectorStatistics(
        read=len(norms),
        norm_mean=float(finite.mean()) if len(finite) else None,
        norm_std=float(finite.std()) if len(finite) else None,
        norm_min=float(finite.min()) if len(finite) else None,
        norm_max=float(finite.max()) if len(finite) else None,
        unit_share=share(int((np.abs(norms - 1) <= UNIT_TOLERANCE).sum())),
        zero_share=share(int((norms == 0).sum())),
        nan_share=share(len(norms) - len(finite)),
        duplicate_share=share(len(hashes) - len(np.unique(hashes))),
    )


def _row_hashes(vectors: Vectors) -> NDArray[np.uint64]:
    """Hash rows by multiply-shift with fixed odd multipliers (Dietzfelbinger et al. 1997)."""
    multipliers = np.random.default_rng(0).integers(
        0, 2**63, size=vectors.shape[1], dtype=np.uint64
    ) * np.uint64(2) + np.uint64(1)
    bits = vectors.view(np.uint32).astype(np.uint64)
    bits *= multipliers
    hashes: NDArray[np.uint64] = bits.sum(axis=1, dtype=np.uint64)
    return hashes
