r"""What a text's words say of its vector, without running the encoder.

An encoder begins with a table that gives each token a vector. The mean of a text's tokens there,
weighted by how telling each is, costs next to nothing and knows words that the old vector has lost.
It is a feature beside the old vector, see :class:`KernelRidge`; on its own it would be a poor
translation. (Arora, Liang and Ma, *A simple but tough-to-beat baseline for sentence embeddings*,
ICLR 2017, for the weighted mean; Spärck Jones 1972 for the weights.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import MissingDependencyError
from vecmigrate.points.batch import Vectors, normalize_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DIMENSION = 256
"""Principal axes of the token table that are kept; more gain nothing."""

MAX_TOKENS = 256
"""Of a text; what follows is not read."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """An encoder's first layer.

    Attributes
    ----------
    tokenizer
        As JSON of the tokenizers library.
    vectors
        ``(tokens, d)`` float32.
    """

    tokenizer: str
    vectors: Vectors


@runtime_checkable
class HasTokenTable(Protocol):
    """What an encoder offers beyond :class:`Encoder` if its first layer is at hand."""

    def token_table(self) -> TokenTable:
        """Return the table."""
        ...


class TokenFeatures:
    r"""Features of texts: :math:`s(t) = u(u(\sum_i w_i e_i) - m)`.

    Over the tokens i of a text, with :math:`e_i` from the table, :math:`w_i = (1 + \log n_i)
    \log\frac{1 + N}{1 + N_i}` for a token that occurs :math:`n_i` times in the text and in
    :math:`N_i` of N anchors, u scaling to unit length and m the mean of the inner u over anchors. A
    text without known tokens has features 0.

    Attributes
    ----------
    table_ : (tokens, d) float16
        The table on its principal axes, times the logarithm.
    mean_ : (d,) float32
    """

    def __init__(self, tokenizer: str) -> None:
        self._json = tokenizer
        self._tokenizer = _open(tokenizer)
        self.table_: NDArray[np.float16]
        self.mean_: Vectors

    @classmethod
    def fit(cls, table: TokenTable, texts: Sequence[str | None]) -> Self:
        """Read token weights off the anchors' ``texts``."""
        features = cls(table.tokenizer)
        counts = features._counts(texts, len(table.vectors))
        seen = np.bincount(counts.indices, minlength=len(table.vectors))
        telling = np.log((1 + len(texts)) / (1 + seen))
        spread = table.vectors - table.vectors.mean(axis=0)
        _, axes = np.linalg.eigh(spread.T @ spread)
        reduced = table.vectors @ axes[:, -DIMENSION:] * telling[:, None]
        features.table_ = np.ascontiguousarray(reduced / np.abs(reduced).max(), dtype=np.float16)
        features.mean_ = np.zeros(features.dimension, np.float32)
        features.mean_ = features._means(counts).mean(axis=0)
        return features

    @property
    def dimension(self) -> int:
        """Features of a text."""
        return int(self.table_.shape[1])

    def transform(self, texts: Sequence[str | None]) -> Vectors:
        """Return ``(n, dimension)`` float32; a text that is None or empty has zeros."""
        means = self._means(self._counts(texts, len(self.table_)))
        features = means - self.mean_
        features[~means.any(axis=1)] = 0
        normalize_rows(features)
        return features

    def state(self) -> dict[str, NDArray[Any]]:
        """Tensors that :meth:`from_state` rebuilds this from."""
        return {
            "tokenizer": np.frombuffer(self._json.encode(), np.uint8),
            "table": self.table_,
            "mean": self.mean_,
        }

    @classmethod
    def from_state(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild; ValueError or KeyError if the tensors are no state."""
        features = cls(bytes(tensors["tokenizer"]).decode())
        features.table_, features.mean_ = tensors["table"], tensors["mean"]
        if features.table_.ndim != 2 or features.mean_.shape != (features.dimension,):
            raise ValueError("token table and mean do not fit")
        return features

    def _counts(self, texts: Sequence[str | None], size: int) -> csr_matrix:
        """``(n, tokens)``: 1 + log of how often each token occurs in each text."""
        from scipy.sparse import csr_matrix

        found = self._tokenizer.encode_batch_fast(
            [text or "" for text in texts], add_special_tokens=False
        )
        tokens = [np.asarray(one.ids, np.int32) for one in found]
        ends = np.cumsum([0, *map(len, tokens)])
        columns = np.concatenate(tokens) if tokens else np.empty(0, np.int32)
        counts = csr_matrix(
            (np.ones(len(columns), np.float32), columns, ends), shape=(len(texts), size)
        )
        counts.sum_duplicates()
        counts.data = 1 + np.log(counts.data)
        return counts

    def _means(self, counts: csr_matrix) -> Vectors:
        means = np.asarray(counts @ self.table_.astype(np.float32), dtype=np.float32)
        normalize_rows(means)
        return means


def _open(json: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "a translator that reads texts needs the package tokenizers",
            remedy="Install it with: pip install 'vecmigrate[encode]'.",
        ) from error
    try:
        tokenizer = Tokenizer.from_str(json)
    except Exception as error:  # the library raises no kind of its own
        raise ValueError(f"no tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
