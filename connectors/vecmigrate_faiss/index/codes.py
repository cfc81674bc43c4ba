"""Codes of vectors, from which they come back changed, and the rules by which they scale."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, ClassVar, Literal, Self

import faiss
from pydantic import BaseModel, ConfigDict, Field

from vecmigrate_faiss.index.base import FaissIndex, PositiveInt, UnknownKindError

SQ_TYPES = {
    "SQ8": faiss.ScalarQuantizer.QT_8bit,
    "SQ6": faiss.ScalarQuantizer.QT_6bit,
    "SQ4": faiss.ScalarQuantizer.QT_4bit,
    "SQfp16": faiss.ScalarQuantizer.QT_fp16,
    "SQbf16": faiss.ScalarQuantizer.QT_bf16,
}
# These hold a range of their own making, into which translated vectors would not fall.
_MADE_ANEW_AS = {
    faiss.ScalarQuantizer.QT_8bit_direct: "SQ8",
    faiss.ScalarQuantizer.QT_8bit_direct_signed: "SQ8",
    faiss.ScalarQuantizer.QT_8bit_uniform: "SQ8",
    faiss.ScalarQuantizer.QT_4bit_uniform: "SQ4",
}
_NORMS = {
    faiss.AdditiveQuantizer.ST_decompress: "",
    faiss.AdditiveQuantizer.ST_LUT_nonorm: "_Nnone",
    faiss.AdditiveQuantizer.ST_norm_float: "_Nfloat",
    faiss.AdditiveQuantizer.ST_norm_qint8: "_Nqint8",
    faiss.AdditiveQuantizer.ST_norm_qint4: "_Nqint4",
    faiss.AdditiveQuantizer.ST_norm_cqint8: "_Ncqint8",
    faiss.AdditiveQuantizer.ST_norm_cqint4: "_Ncqint4",
    faiss.AdditiveQuantizer.ST_norm_lsq2x4: "_Nlsq2x4",
    faiss.AdditiveQuantizer.ST_norm_rq2x4: "_Nrq2x4",
}
_ROWS_PER_CENTROID = 256
_FAST_SCAN_BITS = 4

Bits = Annotated[int, Field(gt=0, le=16)]


class _Codes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def scaled(self, dimension: int) -> Self:
        """Return what follows the vectors' dimension."""
        return self

    def fitted(self, count: int) -> Self:
        """Return what ``count`` vectors can train."""
        return self


class SqCodes(_Codes):
    """Each component by itself in a few bits."""

    training_rows: ClassVar[int] = 100_000
    codes: Literal["sq"] = "sq"
    words: Literal["SQ8", "SQ6", "SQ4", "SQfp16", "SQbf16"]

    @property
    def faiss_type(self) -> int:
        """The number that FAISS gives this type."""
        return int(SQ_TYPES[self.words])


class CodesInParts(_Codes):
    """Each of ``m`` parts of a vector by itself."""

    m: PositiveInt
    width: PositiveInt

    def scaled(self, dimension: int) -> Self:
        """Keep the components per part; the part count is the divisor nearest to that."""
        m = nearest_divisor(dimension, dimension / self.width)
        return self.model_copy(update={"m": m, "width": dimension // m})


class PqCodes(CodesInParts):
    """Parts of ``width`` components, each as the number of one of ``2**nbits`` centroids.

    Parameters
    ----------
    fast_scan
        True if codes lie in blocks for FAISS's SIMD search.
    search_type, polysemous_ht
        How a plain index searches.
    """

    codes: Literal["pq"] = "pq"
    nbits: Bits
    fast_scan: bool = False
    search_type: int = 0
    polysemous_ht: int = 0

    @property
    def words(self) -> str:
        """The codes in FAISS's factory language."""
        return f"PQ{self.m}x{self.nbits}{'fs' if self.fast_scan else ''}"

    @property
    def training_rows(self) -> int:
        """How many vectors training uses."""
        return _ROWS_PER_CENTROID << self.nbits

    def fitted(self, count: int) -> Self:
        """Have no more centroids than there are vectors to train on."""
        nbits = min(self.nbits, _bits_for(count))
        fast_scan = self.fast_scan and nbits == _FAST_SCAN_BITS
        return self.model_copy(update={"nbits": nbits, "fast_scan": fast_scan})


class ResidualCodes(_Codes):
    """The sum of one centroid of each codebook, each codebook being of what those before left.

    Parameters
    ----------
    nbits
        Of each codebook.
    splits
        Parts of a vector that are encoded each by itself (PRQ), the codebooks being theirs in turn.
    norm
        How a search gets the norms, in FAISS's factory language.
    """

    codes: Literal["rq"] = "rq"
    nbits: tuple[Bits, ...]
    splits: PositiveInt = 1
    width: PositiveInt
    norm: str = ""

    @property
    def words(self) -> str:
        """The codes in FAISS's factory language."""
        if self.splits > 1:
            return f"PRQ{self.splits}x{len(self.nbits) // self.splits}x{self.nbits[0]}{self.norm}"
        runs = [(len(list(run)), bits) for bits, run in groupby(self.nbits)]
        return f"RQ{'_'.join(f'{count}x{bits}' for count, bits in runs)}{self.norm}"

    @property
    def training_rows(self) -> int:
        """How many vectors training uses."""
        return _ROWS_PER_CENTROID << max(self.nbits)

    def scaled(self, dimension: int) -> Self:
        """Keep the codebooks of a part, and the components per part if there are several."""
        splits = 1 if self.splits == 1 else nearest_divisor(dimension, dimension / self.width)
        nbits = self.nbits[: len(self.nbits) // self.splits] * splits
        return self.model_copy(
            update={"splits": splits, "width": dimension // splits, "nbits": nbits}
        )

    def fitted(self, count: int) -> Self:
        """Have no more centroids than there are vectors to train on."""
        return self.model_copy(
            update={"nbits": tuple(min(bits, _bits_for(count)) for bits in self.nbits)}
        )


class TwoLevelCodes(CodesInParts):
    """The nearest of ``nlist`` centroids, and the rest by a product quantizer (a byte a part)."""

    codes: Literal["2level"] = "2level"
    nlist: PositiveInt

    @property
    def words(self) -> str:
        """The codes in FAISS's factory language."""
        return f"{self.nlist}+PQ{self.m}"

    @property
    def training_rows(self) -> int:
        """How many vectors training uses."""
        return max(64 * self.nlist, _ROWS_PER_CENTROID << 8)

    def fitted(self, count: int) -> Self:
        """Have no more lists than there are vectors."""
        nlist = self.nlist if self.nlist <= count else max(1, int(count**0.5))
        return self.model_copy(update={"nlist": nlist})


Codes = Annotated[SqCodes | PqCodes | ResidualCodes | TwoLevelCodes, Field(discriminator="codes")]
GraphCodes = Annotated[SqCodes | PqCodes, Field(discriminator="codes")]


def codes_of(index: FaissIndex) -> SqCodes | PqCodes | ResidualCodes | TwoLevelCodes:
    """Read what kind of codes an index stores.

    Raises
    ------
    UnknownKindError
        If such codes cannot be made anew.
    """
    if isinstance(index, faiss.Index2Layer):
        return TwoLevelCodes(nlist=index.q1.nlist, m=index.pq.M, width=index.pq.dsub)
    if hasattr(index, "pq"):
        return _pq_codes(index)
    if hasattr(index, "rq") or hasattr(index, "prq"):
        return _residual_codes(index)
    words = sq_words(index.sq.qtype)
    if words is None:
        raise UnknownKindError(f"has the scalar quantizer type {index.sq.qtype}")
    return SqCodes.model_validate({"words": words})


def sq_words(qtype: int) -> str | None:
    """Return the factory word of the scalar quantizer that stands for a type; None for no such."""
    names = {number: name for name, number in SQ_TYPES.items()}
    return names.get(qtype) or _MADE_ANEW_AS.get(qtype)


def nearest_divisor(dimension: int, wanted: float) -> int:
    """Return the divisor of ``dimension`` nearest to ``wanted``."""
    divisors = [m for m in range(1, dimension + 1) if dimension % m == 0]
    return min(divisors, key=lambda divisor: abs(divisor - wanted))


def _pq_codes(index: FaissIndex) -> PqCodes:
    codes = PqCodes(
        m=index.pq.M,
        nbits=index.pq.nbits,
        width=index.pq.dsub,
        fast_scan=isinstance(index, faiss.IndexPQFastScan | faiss.IndexIVFPQFastScan),
    )
    if not isinstance(index, faiss.IndexPQ) or index.search_type == faiss.IndexPQ.ST_PQ:
        # The threshold of an index that does not use it says nothing.
        return codes
    return codes.model_copy(
        update={"search_type": index.search_type, "polysemous_ht": index.polysemous_ht}
    )


def _residual_codes(index: FaissIndex) -> ResidualCodes:
    quantizer = index.prq if hasattr(index, "prq") else index.rq
    splits = quantizer.nsplits if hasattr(index, "prq") else 1
    norm = _NORMS.get(quantizer.search_type)
    if index.metric_type == faiss.METRIC_INNER_PRODUCT and norm == "_Nnone":
        # What FAISS takes if nothing is said.
        norm = ""
    if norm is None:
        raise UnknownKindError(f"has the additive search type {quantizer.search_type}")
    return ResidualCodes(
        nbits=tuple(faiss.vector_to_array(quantizer.nbits).tolist()),
        splits=splits,
        width=quantizer.d // splits,
        norm=norm,
    )


def _bits_for(count: int) -> int:
    return max(1, count.bit_length() - 1)
