"""How the ranking changes with other anchors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.connector.source import Source
from vecmigrate.dry_run.candidates import Candidates
from vecmigrate.evaluation.search import score_matrix
from vecmigrate.points.batch import Vectors, id_array
from vecmigrate.points.collection import Metric
from vecmigrate.points.ids import lookup_of
from vecmigrate.translators import Translator
from vecmigrate.translators.procrustes import FewAnchorsWarning

GROUPS = 5
DEPTH = 200
"""Candidates ranked again: twice the greatest k."""

_FETCH = 2048


def refit_orders(
    source: Source,
    translator: Translator,
    anchors: AnchorSet,
    queries: Vectors,
    candidates: Candidates,
    metric: Metric,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.intp]:
    """Rank each probe's first candidates by maps that a fifth of the anchors was kept from.

    Parameters
    ----------
    progress
        Called with 1 for each map.

    Returns
    -------
    ``(GROUPS, probes, min(DEPTH, m))`` candidates by rank under each map.
    """
    ids = candidates.ids[:, :DEPTH]
    wanted = id_array(sorted({i for row in ids.tolist() for i in row}, key=str))
    lookup = lookup_of(wanted)
    rows = lookup.rows(id_array(ids.ravel())).reshape(ids.shape)
    field = source.describe().text_field
    fetched = (
        source.fetch(wanted[start : start + _FETCH]) for start in range(0, len(wanted), _FETCH)
    )
    old = np.concatenate([translator.inputs(b.vectors, b.texts(field)) for b in fetched])
    X = translator.inputs(anchors.source_vectors, anchors.texts)
    absent = np.isneginf(candidates.scores[:, :DEPTH])
    group = np.random.default_rng(seed).permutation(len(anchors)) % GROUPS
    orders = np.empty((GROUPS, *ids.shape), np.intp)
    for g in range(GROUPS):
        kept = group != g
        with warnings.catch_warnings(action="ignore", category=FewAnchorsWarning):
            refit = copy.copy(translator).fit(X[kept], anchors.target_vectors[kept])
        new = refit.transform(old)
        for probe, query in enumerate(queries):
            scores = score_matrix(query[None], new[rows[probe]], metric)[0]
            scores[absent[probe]] = -np.inf
            orders[g, probe] = np.argsort(-scores, kind="stable")
        if progress is not None:
            progress(1)
    return orders
