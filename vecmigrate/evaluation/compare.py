"""Old, translated and fully re-embedded collections side by side, on the same queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from vecmigrate.connector.registry import open_source
from vecmigrate.connector.source import Source
from vecmigrate.errors import InputError, MismatchError, UsageError
from vecmigrate.evaluation.metrics import (
    Labels,
    labelled_recall,
    ndcg,
    recall_against,
    reciprocal_rank,
)
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import IdArray, VectorBatch, Vectors
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.runtime.options import Options

READ_BATCH = 8192


class Metrics(BaseModel):
    """Means over queries at one cut-off; None if there is nothing to compare with.

    Attributes
    ----------
    recall
        Share of the reference's top k that this collection returns.
    agreement
        Share of the source's top k that this collection returns.
    labelled_recall, mrr, ndcg
        Against the relevance labels.
    """

    recall: float | None = None
    agreement: float | None = None
    labelled_recall: float | None = None
    mrr: float | None = None
    ndcg: float | None = None


class EvaluationRow(BaseModel):
    """One collection: ``role`` is source, target or reference; ``at`` maps k to its metrics."""

    role: str
    uri: str
    count: int
    at: dict[int, Metrics]


class Evaluation(BaseModel):
    """A comparison of collections.

    Attributes
    ----------
    queries, labelled_queries
        How many queries there were, and how many had labels.
    unknown_labels
        Relevant ids that the target does not hold.
    """

    queries: int
    labelled_queries: int
    unknown_labels: list[int | str]
    rows: list[EvaluationRow]

    def row(self, role: str) -> EvaluationRow:
        """The row of that role; KeyError if it was not part of the comparison."""
        for row in self.rows:
            if row.role == role:
                return row
        raise KeyError(role)


class EvaluateOptions(Options):
    """Options of :func:`evaluate`."""

    k: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = Field(
        default=[10], description="Cut-off; may be repeated."
    )


def evaluate(
    *,
    target: str | Source,
    target_queries: Vectors,
    source: str | Source | None = None,
    source_queries: Vectors | None = None,
    reference: str | Source | None = None,
    labels: Labels | None = None,
    options: EvaluateOptions | None = None,
    progress: Callable[[int], None] | None = None,
    **given: Any,
) -> Evaluation:
    """Compare collections by exact search, so that what is measured is the map and not an index.

    recall@k is the share of the reference's exact top k (all documents truly re-embedded, queries
    of the new encoder) that a collection returns. Without a reference that cannot be known, and
    only labels and the agreement with the source are reported.

    Parameters
    ----------
    target, target_queries
        The translated collection, and ``(n, d)`` float32 query vectors of the new encoder, which
        the reference is searched with too.
    source, source_queries
        The old collection, and the same queries under the old encoder.
    reference
        The corpus fully re-embedded with the new encoder.
    labels
        See :data:`Labels`.
    options, given
        :class:`EvaluateOptions`, or fields of it by name.
    progress
        Called with the number of points just searched.

    Raises
    ------
    InputError
        If query counts differ or there are no queries.
    MismatchError
        If queries do not have a collection's dimension.
    """
    cutoffs = sorted(set(EvaluateOptions.given(options, given).k))
    if (source is None) != (source_queries is None):
        raise UsageError(
            "a source needs its own queries, and source queries a source",
            remedy="Give both, queries encoded by the old encoder, or neither.",
        )
    asked = [("source", source, source_queries), ("target", target, target_queries)]
    asked.append(("reference", reference, target_queries))
    found: dict[str, IdArray] = {}
    descriptions: dict[str, CollectionDescription] = {}
    unknown: list[int | str] = []
    with ExitStack() as stack:
        for role, place, queries in asked:
            if place is None or queries is None:
                continue
            opened = stack.enter_context(open_source(place)) if isinstance(place, str) else place
            descriptions[role] = opened.describe()
            _check_queries(descriptions[role], queries, target_queries, labels)
            found[role] = _search(opened, descriptions[role], queries, cutoffs[-1], progress)
            if role == "target" and labels is not None:
                unknown = _unknown_ids(opened, labels)
    return Evaluation(
        queries=len(target_queries),
        labelled_queries=sum(bool(relevant) for relevant in labels or ()),
        unknown_labels=unknown,
        rows=[
            EvaluationRow(
                role=role,
                uri=description.uri,
                count=description.count,
                at={c: _metrics(role, found, labels, c) for c in cutoffs},
            )
            for role, description in descriptions.items()
        ],
    )


def _check_queries(
    description: CollectionDescription,
    queries: Vectors,
    target_queries: Vectors,
    labels: Labels | None,
) -> None:
    if queries.ndim != 2 or queries.shape[1] != description.dimension:
        raise MismatchError(
            f"queries of shape {queries.shape} for {description.uri}, which holds "
            f"{description.dimension} dimensions",
            remedy="Encode the queries with that collection's encoder.",
        )
    for what, count in (("queries", len(queries)), ("labels", len(labels or target_queries))):
        if count != len(target_queries) or count == 0:
            raise InputError(
                f"{count} {what} beside {len(target_queries)} queries",
                remedy="Row i of each must belong to the same query.",
            )


def _search(
    source: Source,
    description: CollectionDescription,
    queries: Vectors,
    k: int,
    progress: Callable[[int], None] | None,
) -> IdArray:
    def counted() -> Iterator[VectorBatch]:
        for batch in source.batches(READ_BATCH, payloads=False):
            yield batch
            if progress is not None:
                progress(len(batch))

    if description.count == 0:
        raise InputError(f"{description.uri} is empty", remedy="There is nothing to search.")
    return exact_search(counted(), np.ascontiguousarray(queries), k, description.metric)


def _unknown_ids(target: Source, labels: Labels) -> list[int | str]:
    wanted = {i for relevant in labels for i in relevant}
    for ids in target.ids(READ_BATCH):
        wanted.difference_update(ids.tolist())
        if not wanted:
            break
    return sorted(wanted, key=str)


def _metrics(role: str, found: dict[str, IdArray], labels: Labels | None, k: int) -> Metrics:
    ranked = found[role]
    values: dict[str, float | None] = {}
    for name, other in (("recall", "reference"), ("agreement", "source")):
        if other in found and other != role:
            values[name] = float(recall_against(ranked, found[other], k).mean())
    if labels is not None and any(labels):
        values["labelled_recall"] = float(labelled_recall(ranked, labels, k).mean())
        values["mrr"] = float(reciprocal_rank(ranked, labels, k).mean())
        values["ndcg"] = float(ndcg(ranked, labels, k).mean())
    return Metrics(**values)
