"""Fits a translator by name of method."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from vecmigrate.batches import Vectors
from vecmigrate.description import Metric
from vecmigrate.translators import Procrustes, Translator
from vecmigrate.translators.selection import CandidateScore, choose_translator


class Method(StrEnum):
    """How to fit."""

    AUTO = "auto"
    PROCRUSTES = "procrustes"


def fit_translator(
    X: Vectors,
    Y: Vectors,
    method: Method,
    *,
    seed: int = 0,
    metric: Metric = Metric.COSINE,
    progress: Callable[[int], None] | None = None,
) -> tuple[Translator, list[CandidateScore]]:
    """Fit on ``(n, d_source)`` and ``(n, d_target)`` anchors; the table is empty but for auto.

    See :func:`choose_translator` for ``seed``, ``metric``, ``progress`` and what is raised.
    """
    if method is Method.PROCRUSTES:
        return Procrustes().fit(X, Y), []
    selection = choose_translator(X, Y, seed=seed, metric=metric, progress=progress)
    return selection.translator, selection.table
