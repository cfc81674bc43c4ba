"""Fits a translator by name of method, and tells what its held-out anchors show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vecmigrate.errors import UsageError
from vecmigrate.points.batch import Vectors
from vecmigrate.points.collection import Metric
from vecmigrate.translators import Direction, KernelRidge, Procrustes, Ridge, Translator
from vecmigrate.translators.mixing import mixing_scale
from vecmigrate.translators.selection import FOLDS, CandidateScore, choose_translator
from vecmigrate.translators.token_features import TokenFeatures, TokenTable

QUERY_LANDMARKS = 512
"""Bounds what a query costs when queries are translated one by one while a user waits."""


class Method(StrEnum):
    """How to fit."""

    AUTO = "auto"
    PROCRUSTES = "procrustes"
    RIDGE = "ridge"
    KERNEL_RIDGE = "kernel-ridge"


def fit_translator(
    X: Vectors,
    Y: Vectors,
    method: Method,
    *,
    direction: Direction = Direction.DOCUMENT,
    seed: int = 0,
    metric: Metric = Metric.COSINE,
    texts: AnchorTexts | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Translator, list[CandidateScore]]:
    """Fit on ``(n, d_source)`` and ``(n, d_target)`` anchors; the table is empty but for auto.

    For :attr:`Direction.QUERY`, kernel ridge has at most ``QUERY_LANDMARKS`` landmarks. With
    ``texts``, kernel ridge reads the texts of points too, see :class:`TokenFeatures`. See
    :func:`choose_translator` for ``seed``, ``metric``, ``progress`` and what is raised.
    """
    landmarks = QUERY_LANDMARKS if direction is Direction.QUERY else None
    features = None if texts is None else TokenFeatures.fit(texts.table, texts.texts)
    text_dim = 0
    if features is not None and texts is not None:
        X = np.concatenate([X, features.transform(texts.texts)], axis=1, dtype=np.float32)
        text_dim = features.dimension
    if method is Method.AUTO:
        selection = choose_translator(
            X,
            Y,
            seed=seed,
            metric=metric,
            landmarks=landmarks,
            text_dim=text_dim,
            progress=progress,
        )
        translator, table = selection.translator, selection.table
    else:
        if text_dim and method is not Method.KERNEL_RIDGE:
            raise UsageError(
                f"the method {method} reads no texts",
                remedy="Leave --texts out, or take --method auto or kernel-ridge.",
            )
        estimators: dict[Method, Translator] = {
            Method.PROCRUSTES: Procrustes(),
            Method.RIDGE: Ridge(),
            Method.KERNEL_RIDGE: KernelRidge(landmarks=landmarks, seed=seed, text_dim=text_dim),
        }
        translator, table = estimators[method].fit(X, Y), []
    if translator.text_dim_:
        translator.text_features_ = features
    return translator, table


@dataclass(frozen=True, slots=True)
class AnchorTexts:
    """Texts of the anchors, row by row, and the first layer of an encoder to read them with."""

    texts: Sequence[str | None]
    table: TokenTable


def held_out(translator: Translator, X: Vectors, Y: Vectors, seed: int) -> Vectors:
    """Return the ``(n, d_target)`` anchors as maps like ``translator`` without them translate.

    ``X`` is what the translator's ``inputs`` returns for them.
    """
    if translator.held_out_ is not None:
        return translator.held_out_
    fold = np.random.default_rng(seed).permutation(len(X)) % FOLDS
    return translator.cross_predict(X, Y, fold)


def fair_scale(
    translator: Translator, X: Vectors, Y: Vectors, population: int, seed: int
) -> float | None:
    """Return the :func:`mixing_scale`; None for vectors of free length."""
    if not translator.normalize_output_:
        return None
    return mixing_scale(held_out(translator, X, Y, seed), Y, population, seed)
