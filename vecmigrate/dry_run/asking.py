"""Chooses probes and encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vecmigrate.dry_run.job import Job
from vecmigrate.dry_run.probes import Asked, Log, Probes, Role, from_documents, from_log, usable_log
from vecmigrate.dry_run.purchases import Shares
from vecmigrate.dry_run.sample import Sample
from vecmigrate.encoders.metered import count_tokens
from vecmigrate.errors import InputError
from vecmigrate.evaluation import Query
from vecmigrate.points.batch import PointId, VectorBatch, Vectors, id_array
from vecmigrate.report.schema import ProbeKind


@dataclass(frozen=True, slots=True)
class Choice:
    """Probes to be encoded.

    Attributes
    ----------
    asked
        In the order in which they are bought for, but for the main ones, which come last.
    kind
        Of the main ones.
    log
        What was left out of the log; None without one.
    """

    asked: list[Asked]
    kind: ProbeKind
    log: Log | None


def with_labels(
    queries: Sequence[Query], labels: Mapping[PointId, Mapping[PointId, float]] | None
) -> list[Query]:
    """Give queries the labels of a file of their own, instead of those that they carry.

    Raises
    ------
    InputError
        Where no labelled query is in the log.
    """
    if labels is None:
        return list(queries)
    if not labels.keys() & {query.id for query in queries}:
        raise InputError(
            "no query that --labels names is in --queries",
            remedy="Label queries by the ids they have in the log.",
        )
    return [query.model_copy(update={"relevant": labels.get(query.id, {})}) for query in queries]


def choose_probes(
    job: Job,
    shares: Shares,
    queries: Sequence[Query] | None,
    anchor_texts: Sequence[str | None],
    documents: Sample,
) -> Choice:
    """Choose probes of each role.

    Parameters
    ----------
    documents
        A uniform sample, none of it bought for another reason.

    Raises
    ------
    InputError
        Where no query can be used.
    """
    usable = documents.usable(needs_texts=job.encoder.needs_texts)
    ids, texts = usable.points.ids, usable.texts
    if queries is None:
        n = shares.main
        asked = from_documents(ids[:n], texts[:n], Role.MAIN)
        return Choice(asked, ProbeKind.DOCUMENTS, None)
    log = usable_log(queries, anchor_texts, job.rng(1), needs_texts=job.query_encoder.needs_texts)
    if not log.queries:
        raise InputError(
            f"none of {log.available:,} queries can be used: {log.without_text:,} have no text, "
            f"{log.anchors_excluded:,} are anchors' own texts",
            remedy="Give a log of queries with texts.",
        )
    main, rest = log.queries[: shares.main], log.queries[shares.main :]
    labelled = [query for query in rest if query.relevant][: shares.labelled]
    n = shares.documents
    asked = [
        *from_documents(ids[:n], texts[:n], Role.DOCUMENT),
        *from_log(labelled, Role.LABELLED),
        *from_log(main, Role.MAIN),
    ]
    return Choice(asked, ProbeKind.QUERY_LOG, log)


def encode_probes(job: Job, asked: Sequence[Asked], documents: VectorBatch) -> Probes:
    """Encode probes under the new encoder, and under the old one where it is given."""
    vectors = np.empty((len(asked), job.encoder.identity.dimension), np.float32)
    own = np.flatnonzero([probe.own is not None for probe in asked])
    logged = np.flatnonzero([probe.own is None for probe in asked])
    texts = [probe.text for probe in asked]
    ids = id_array(probe.id for probe in asked)
    with job.stage("encoding queries", len(asked), unit="text") as advance:
        if len(own) and not job.encoder.needs_texts:
            vectors[own] = job.documents.vectors(ids[own], [None] * len(own), advance)
        elif len(own):
            vectors[own] = job.queries.vectors(ids[own], [texts[i] for i in own], advance)
        if len(logged):
            vectors[logged] = job.queries.vectors(ids[logged], [texts[i] for i in logged], advance)
    job.spent.queries += len(asked)
    job.spent.tokens += sum(count_tokens(job.query_encoder, texts))
    return Probes(list(asked), vectors, _old_queries(job, asked, documents))


def _old_queries(job: Job, asked: Sequence[Asked], documents: VectorBatch) -> Vectors | None:
    encoder = job.old_encoder
    if encoder is None:
        return None
    old = np.empty((len(asked), job.description.dimension), np.float32)
    at = {point: row for row, point in enumerate(documents.ids.tolist())}
    logged = [row for row, probe in enumerate(asked) if probe.own is None]
    for row, probe in enumerate(asked):
        if probe.own is not None:
            old[row] = documents.vectors[at[probe.own]]
    if logged:
        texts = [asked[row].text or "" for row in logged]
        ids = id_array(asked[row].id for row in logged)
        old[logged] = encoder.encode(texts, ids=ids, role="query")
    return old
