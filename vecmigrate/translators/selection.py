"""Chooses a translator by the recall it gives on anchors that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from vecmigrate.batches import IdArray, VectorBatch, Vectors
from vecmigrate.description import Metric
from vecmigrate.evaluation.metrics import recall_against
from vecmigrate.evaluation.search import exact_search
from vecmigrate.translators.base import Translator, check_anchors
from vecmigrate.translators.procrustes import Procrustes

FOLDS = 5
CUTOFF = 10
MAX_QUERIES = 2000

CANDIDATES: Mapping[str, Callable[[], Translator]] = {
    "centred Procrustes with scale": Procrustes,
    "centred Procrustes": lambda: Procrustes(scale=False),
    "raw Procrustes with scale": lambda: Procrustes(center=False),
}


class CandidateScore(BaseModel):
    """A candidate and its recall@10 on held-out anchors: a ranking aid, not a forecast."""

    name: str
    held_out_recall: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The best candidate, fitted on all anchors, and the table it was chosen from, best first."""

    translator: Translator
    table: list[CandidateScore]


def choose_translator(
    X: Vectors,
    Y: Vectors,
    *,
    seed: int = 0,
    metric: Metric = Metric.COSINE,
    candidates: Mapping[str, Callable[[], Translator]] = CANDIDATES,
    progress: Callable[[int], None] | None = None,
) -> Selection:
    """Fit the candidate with the best cross-validated retrieval recall.

    Each anchor is translated by a map fitted without its fold. Anchors' true target vectors then
    serve as queries: a candidate's score is the share of a query's true ``CUTOFF`` nearest anchors
    found among the translated ones. All anchors are each other's distractors, yet far fewer than a
    corpus holds, so scores rank candidates and overstate recall.

    Parameters
    ----------
    X, Y
        ``(n, source_dim)`` and ``(n, target_dim)`` float32 anchors.
    seed
        Of the folds and of the queries drawn where there are over ``MAX_QUERIES`` anchors.
    metric
        How the collection compares vectors.
    progress
        Called with 1 for each map fitted, ``FOLDS`` a candidate.

    Raises
    ------
    InputError
        As :meth:`Translator.fit`.
    """
    X, Y = (np.ascontiguousarray(a, dtype=np.float32) for a in check_anchors(X, Y))
    if len(X) <= 2 * FOLDS:
        name, make = next(iter(candidates.items()))
        return Selection(make().fit(X, Y), [CandidateScore(name=name, held_out_recall=np.nan)])
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(X)) % FOLDS
    queries = rng.permutation(len(X))[:MAX_QUERIES]
    truth = _nearest_others(Y, Y, queries, metric)
    table = []
    for name, make in candidates.items():
        held_out: Vectors | None = None
        for f in range(FOLDS):
            fitted = make().fit(X[fold != f], Y[fold != f])
            if held_out is None:
                held_out = np.empty((len(X), fitted.target_dim_), np.float32)
            held_out[fold == f] = fitted.transform(np.ascontiguousarray(X[fold == f]))
            if progress is not None:
                progress(1)
        assert held_out is not None
        found = _nearest_others(Y, held_out, queries, metric)
        recall = float(recall_against(found, truth, CUTOFF).mean())
        table.append(CandidateScore(name=name, held_out_recall=recall))
    # A stable sort: of equals, the candidate listed first, which is the simpler one, wins.
    table.sort(key=lambda score: -score.held_out_recall)
    return Selection(candidates[table[0].name]().fit(X, Y), table)


def _nearest_others(
    queries: Vectors, points: Vectors, rows: NDArray[np.intp], metric: Metric
) -> IdArray:
    """Rows of the ``CUTOFF`` points nearest to each query row, itself left out."""
    batch = VectorBatch(np.arange(len(points)), points)
    found = exact_search([batch], np.ascontiguousarray(queries[rows]), CUTOFF + 1, metric)
    others = found != rows[:, None]
    # Where a point is not among its own nearest, the last of them is one too many.
    others[others.all(axis=1), -1] = False
    nearest: IdArray = found[others].reshape(len(rows), -1)
    return nearest
