"""What the new collection's own index finds, against exact search on the same vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.source import Source
from vecmigrate.encoders.queries import ready_made_queries
from vecmigrate.evaluation.search import exact_search, score_matrix
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors, id_array
from vecmigrate.points.collection import CollectionDescription, Metric
from vecmigrate.verification.records import Check, CheckResult

K = 10
GOOD = 0.95
"""Recall below which the user is told what to raise."""

_SCORE_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class IndexQueries:
    """Queries to ask the index.

    Parameters
    ----------
    vectors
        ``(n, d)`` float32, in the new collection's space.
    own
        If the probes are points of the collection, their ids: a point finds itself, which says
        nothing, and is left out of what it finds.
    """

    vectors: Vectors
    own: tuple[PointId, ...] | None = None

    @property
    def words(self) -> str:
        """What they are, for a person."""
        kind = "points of its own" if self.own is not None else "queries"
        return f"{len(self.vectors):,} {kind}"

    def asked(self) -> int:
        """How many results to ask for, so that ten are left without the probe itself."""
        return K + 1 if self.own is not None else K

    def without_own(self, found: Iterable[IdArray]) -> list[list[PointId]]:
        """Return each probe's ten results."""
        rows = [ids.tolist() for ids in found]
        if self.own is not None:
            rows = [[i for i in ids if i != own] for ids, own in zip(rows, self.own, strict=True)]
        return [ids[:K] for ids in rows]


def read_query_vectors(path: Path, collection: CollectionDescription) -> IndexQueries:
    """Read ready-made query vectors; errors as :func:`ready_made_queries`."""
    return IndexQueries(ready_made_queries(path, collection.dimension, collection.uri))


def exact_answers(
    batches: Iterable[VectorBatch], probes: IndexQueries, metric: Metric
) -> list[list[PointId]]:
    """Return each probe's ten nearest points by exact search, reading all batches."""
    if not len(probes.vectors):
        for _ in batches:
            pass
        return []
    return probes.without_own(exact_search(batches, probes.vectors, probes.asked(), metric))


def check_index(
    target: Source, probes: IndexQueries, truth: list[list[PointId]], least: float | None
) -> Check:
    """Search the collection's own index and compare.

    Parameters
    ----------
    truth
        From :func:`exact_answers`.
    least
        Recall below which the check fails; None for a warning below :data:`GOOD` and no failure.
    """
    if target.describe().multivector:
        return Check.skipped(
            "index recall", "not measured: the index of points with several vectors is not searched"
        )
    if not any(truth):
        return Check.skipped("index recall", "there is nothing to search for")
    if (reason := target.unmeasurable(probes.vectors, probes.asked())) is not None:
        return Check.skipped("index recall", f"not measured: {reason}")
    answers = target.search(probes.vectors, probes.asked())
    if answers is None:
        return Check.skipped("index recall", "this store's connector searches no index")
    found = probes.without_own(answers)
    shares = _shares(target, probes.vectors, found, truth)
    recall = float(shares.mean())
    exact = _exact_recall(target, probes, truth) if recall < GOOD else None
    parameter = target.search_parameter()
    outcome = CheckResult.PASSED
    if least is not None and recall < least:
        outcome = CheckResult.FAILED
    elif recall < GOOD:
        outcome = CheckResult.WARNING
    index = target.describe().index_type
    summary = f"{index} finds {recall:.3f} of the true top {K} ({probes.words})"
    if outcome is not CheckResult.PASSED:
        wanted = f", {least:.3f} is asked for" if outcome is CheckResult.FAILED else ""
        summary += wanted + _blame(exact, parameter)
    return Check(
        name="index recall",
        outcome=outcome,
        summary=summary,
        figures={
            "recall": recall,
            "k": K,
            "probes": len(probes.vectors),
            "own_points": probes.own is not None,
            "lowest": float(shares.min()),
            "parameter": parameter,
            "exact_search_recall": exact,
        },
    )


def _exact_recall(target: Source, probes: IndexQueries, truth: list[list[PointId]]) -> float | None:
    """Return the recall of the store's own search of all points, None if it has none."""
    answers = target.search_exactly(probes.vectors, probes.asked())
    if answers is None:
        return None
    return float(_shares(target, probes.vectors, probes.without_own(answers), truth).mean())


def _blame(exact: float | None, parameter: str | None) -> str:
    """Say what loses the rest: the data, if the store's own exact search loses it too."""
    if exact is not None and exact < GOOD:
        return (
            f": the data, not the index, lose the rest, since the store's own search of all points "
            f"finds {exact:.3f}; stored vectors are rounded, or many are equally near"
        )
    remedy = f"; raise {parameter}" if parameter else ", though it should be exact"
    return f": the index itself loses the rest{remedy}"


def _shares(
    target: Source, queries: Vectors, found: list[list[PointId]], truth: list[list[PointId]]
) -> NDArray[np.float64]:
    """Return each probe's share of true results; a point as near as the last true one counts.

    Without that, an index would be blamed for choosing another one among equal vectors.
    """
    shares = np.ones(len(truth))
    metric = target.describe().metric
    for row, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
        others = [i for i in ours if i not in set(theirs)]
        hits = len(ours) - len(others)
        if others:
            points = target.fetch(id_array([theirs[-1], *others])).vectors
            # In double precision, since points that are near have distances that cancel.
            query = queries[row : row + 1].astype(np.float64)
            scores = score_matrix(query, points.astype(np.float64), metric)[0]
            slack = _SCORE_TOLERANCE * max(1.0, abs(float(scores[0])))
            hits += int((scores[1:] >= scores[0] - slack).sum())
        if theirs:
            shares[row] = min(hits, len(theirs)) / len(theirs)
    return shares
