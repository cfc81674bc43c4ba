"""The kinds of FAISS index that are read and made anew, each with what a copy is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

OLD, NEW, COUNT = 32, 48, 600
BOTH = (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT)
L2 = (faiss.METRIC_L2,)


@dataclass(frozen=True)
class Case:
    """An index of 32 dimensions and its copy of 48.

    Parameters
    ----------
    old, new
        In FAISS's factory language.
    kept
        What a copy has as the index has it; what a target of another dimension scales, how.
    metrics
        What it is tested with: L2, and the inner product for one kind of each sort at least.
    """

    old: str
    new: str
    kept: str
    metrics: tuple[int, ...] = BOTH
    exact: bool = False
    syncs: bool = True


_IVF = "nlist, nprobe, direct map"
_HNSW = "M, efConstruction, efSearch"
_NSG = "R, GK, search_L"
_PQ = "nbits, m by the components per part"
CASES = [
    Case("Flat", "Flat", "all", exact=True),
    Case("IVF16,Flat", "IVF16,Flat", _IVF, exact=True),
    Case("IVF16_HNSW8,Flat", "IVF16_HNSW8,Flat", f"{_IVF}; {_HNSW} of the quantizer", exact=True),
    Case("HNSW8,Flat", "HNSW8,Flat", _HNSW, exact=True),
    Case("NSG16,Flat", "NSG16,Flat", _NSG, exact=True),
    *(Case(words, words, "type") for words in ("SQ8", "SQ6", "SQ4", "SQfp16", "SQbf16")),
    Case("PQ8x4", "PQ12x4", f"{_PQ}, search type"),
    Case("PQ8x4fs", "PQ12x4fs", _PQ, L2),
    Case("RQ4x6", "RQ4x6", "codebooks and their bits"),
    Case("RQ1x7_2x5_Nqint8", "RQ1x7_2x5_Nqint8", "codebooks and their bits, norms", L2),
    Case("PRQ2x2x6", "PRQ3x2x6", "codebooks of a part; parts by their components"),
    Case("IVF16,SQ8", "IVF16,SQ8", f"{_IVF}, type, by residual"),
    Case("IVF16,PQ8x4", "IVF16,PQ12x4", f"{_IVF}, {_PQ}, by residual"),
    Case("IVF16_HNSW8,PQ8x4", "IVF16_HNSW8,PQ12x4", f"{_IVF}, {_PQ}; {_HNSW} of the quantizer", L2),
    Case("IVF16,PQ8x4fs", "IVF16,PQ12x4fs", f"{_IVF}, {_PQ}"),
    Case("IVF16,PQ8x4fsr", "IVF16,PQ12x4fsr", f"{_IVF}, {_PQ}", syncs=False),
    Case("IVF16,RQ4x6", "IVF16,RQ4x6", f"{_IVF}, codebooks and their bits"),
    Case("IVF16,PRQ2x2x6", "IVF16,PRQ3x2x6", f"{_IVF}, codebooks; parts by their components", L2),
    Case("HNSW8,SQ8", "HNSW8,SQ8", f"{_HNSW}, type"),
    Case("HNSW8,PQ8x4", "HNSW8,PQ12x4", f"{_HNSW}, {_PQ}"),
    Case("HNSW8,16+PQ8", "HNSW8,16+PQ12", f"{_HNSW}, lists, {_PQ}", L2, syncs=False),
    Case("NSG16,SQ8", "NSG16,SQ8", f"{_NSG}, type", L2),
    Case("NSG16,PQ8x4", "NSG16,PQ12x4", f"{_NSG}, {_PQ}", L2),
    Case("OPQ8,PQ8x4", "OPQ12_48,PQ12x4", f"{_PQ}, of both", L2),
    Case(
        "OPQ8_24,IVF16,PQ8x4",
        "OPQ8_24,IVF16,PQ8x4",
        "output dimension, and so all behind it",
        L2,
    ),
    Case("PCA16,Flat", "PCA16,Flat", "output dimension", L2),
    Case("PCAR16,SQ8", "PCAR16,SQ8", "output dimension, rotation"),
    Case("PCAW32,Flat", "PCAW48,Flat", "whitening; all components stay all", L2, exact=True),
    Case("RR32,Flat", "RR48,Flat", "all components stay all", exact=True),
    Case("RR24,SQ8", "RR24,SQ8", "output dimension"),
    Case("L2norm,Flat", "L2norm,Flat", "all; with the inner product, it is cosine", exact=True),
    Case("L2norm,HNSW8,Flat", "L2norm,HNSW8,Flat", _HNSW, exact=True),
    Case("Pad40,IVF16,PQ8x4", "Pad56,IVF16,PQ14x4", f"number of zeros, {_IVF}, {_PQ}", L2),
    Case("IVF16,PQ8x4,RFlat", "IVF16,PQ12x4,RFlat", f"k_factor, {_IVF}, {_PQ}", L2, exact=True),
    Case("PQ8x4,Refine(SQ8)", "PQ12x4,Refine(SQ8)", f"k_factor, {_PQ}, type", L2),
    Case(
        "RR32,IVF16,PQ8x4fs,RFlat",
        "RR48,IVF16,PQ12x4fs,RFlat",
        f"k_factor, {_IVF}, {_PQ}; all components stay all",
        L2,
        exact=True,
    ),
]

REFUSED = {
    "LSH": "IndexLSH",
    "ITQ16,LSH": "IndexLSH",
    "ITQ16,SQ8": "ITQTransform",
    "IVF16,FlatDedup": "IndexIVFFlatDedup",
    "IVF16,ITQ16,SH": "IndexIVFSpectralHash",
    "LSQ2x4": "IndexLocalSearchQuantizer",
    "IVF16,LSQ2x4": "IndexIVFLocalSearchQuantizer",
    "RaBitQ": "IndexRaBitQ",
    "IVF16,RaBitQ": "IndexIVFRaBitQ",
    "IVF16,RQ3x4fs_32_Nrq2x4": "IndexIVFResidualQuantizerFastScan",
}


def rows(seed: int = 0) -> NDArray[np.float32]:
    """``(600, 48)`` float32 of the shape that embeddings have: neighbours, and no zero vector."""
    draw = np.random.default_rng(seed)
    centers = draw.standard_normal((40, NEW))
    near = centers[draw.integers(0, 40, COUNT)] + 0.6 * draw.standard_normal((COUNT, NEW))
    return near.astype(np.float32)


def sparse_ids() -> NDArray[np.int64]:
    """``(600,)`` distinct int64 ids in no order, some of them large."""
    drawn = np.random.default_rng(1).choice(10**6, COUNT, replace=False)
    return np.where(drawn % 7 == 0, drawn + 2**53, drawn).astype(np.int64)


def build(
    words: str, vectors: NDArray[np.float32], metric: int, ids: NDArray[np.int64] | None = None
) -> Any:
    """Build an index; search-time parameters differ from their defaults."""
    index = faiss.index_factory(vectors.shape[1], words, metric)
    for part in parts_of(index):
        if hasattr(part, "nprobe"):
            part.nprobe = 5
            part.cp.min_points_per_centroid = 1
        if hasattr(part, "hnsw"):
            part.hnsw.efSearch = 37
            part.hnsw.efConstruction = 50
        if hasattr(part, "nsg"):
            part.nsg.search_L = 33
        if hasattr(part, "k_factor"):
            part.k_factor = 4
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False  # It reorders the codes, for half a second.
    if isinstance(index, faiss.IndexPreTransform):
        matrix = faiss.downcast_VectorTransform(index.chain.at(0))
        if isinstance(matrix, faiss.OPQMatrix):
            matrix.niter = 4  # For the time that it takes.
    index.train(vectors)
    index.add(vectors) if ids is None else index.add_with_ids(vectors, ids)
    return index


def parts_of(index: Any) -> list[Any]:
    """An index and all that it is made of, by what FAISS makes of them."""
    found = [index]
    for name in ("index", "base_index", "refine_index", "storage", "quantizer"):
        part = getattr(index, name, None)
        if part is not None:
            found += parts_of(faiss.downcast_index(part))
    return found


def search_parameters(index: Any) -> list[tuple[str, float]]:
    """What a search with the index goes by, in the order of its parts."""
    found: list[tuple[str, float]] = []
    for part in parts_of(index):
        if hasattr(part, "nprobe"):
            found.append(("nprobe", part.nprobe))
        if hasattr(part, "hnsw"):
            found.append(("efSearch", part.hnsw.efSearch))
            found.append(("efConstruction", part.hnsw.efConstruction))
        if hasattr(part, "nsg"):
            found.append(("search_L", part.nsg.search_L))
        if hasattr(part, "k_factor"):
            found.append(("k_factor", part.k_factor))
    return found


FEATURES = {
    "points_removed_from_an_index": (
        "points removed",
        "those that are left, under their ids",
    ),
    "an_id_map_behind_a_transformation": (
        "IDMap, IDMap2 around an index, or behind a transformation",
        "ids; the map is then around the whole",
    ),
    "a_direct_map": ("direct map of IVF, none, array or hash table", "its type"),
    "lists_on_disk": (
        "on-disk inverted lists",
        "ids and vectors, read where they are; a copy has them in its own file",
    ),
    "a_multi_index_quantizer": ("IVF over a multi-index quantizer (IMI)", "lists, as a Flat one"),
    "a_direct_scalar_quantizer": ("SQ8_direct and others that are made without training", "as SQ8"),
    "shards_and_replicas": (
        "IndexShards, IndexReplicas",
        "FAISS cannot write them to a file; migrate each part's file",
    ),
    "a_binary_index": ("binary indexes", "refused by name"),
    "other_metrics": ("metrics other than L2, inner product and L1", "refused by name"),
}
"""What an index may have beside its kind; each is a test in test_faiss_features."""
