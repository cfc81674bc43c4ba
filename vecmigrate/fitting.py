"""Fits a translator by name of method."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from vecmigrate.batches import Vectors
from vecmigrate.description import Metric
from vecmigrate.translators import Direction, KernelRidge, Procrustes, Ridge, Translator
from vecmigrate.translators.selection import CandidateScore, choose_translator

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
    progress: Callable[[int], None] | None = None,
) -> tuple[Translator, list[CandidateScore]]:
    """Fit on ``(n, d_source)`` and ``(n, d_target)`` anchors; the table is empty but for auto.

    For :attr:`Direction.QUERY`, kernel ridge has at most ``QUERY_LANDMARKS`` landmarks.
    See :func:`choose_translator` for ``seed``, ``metric``, ``progress`` and what is raised.
    """
    landmarks = QUERY_LANDMARKS if direction is Direction.QUERY else None
    if method is Method.AUTO:
        selection = choose_translator(
            X, Y, seed=seed, metric=metric, landmarks=landmarks, progress=progress
        )
        return selection.translator, selection.table
    estimators: dict[Method, Translator] = {
        Method.PROCRUSTES: Procrustes(),
        Method.RIDGE: Ridge(),
        Method.KERNEL_RIDGE: KernelRidge(landmarks=landmarks, seed=seed),
    }
    return estimators[method].fit(X, Y), []
