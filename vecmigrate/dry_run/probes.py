"""Probes, which stand for what users will ask: chosen, and encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.shares import Shares
from vecmigrate.encoders import EncoderRole
from vecmigrate.errors import InputError
from vecmigrate.evaluation import Query
from vecmigrate.points.batch import PointId, VectorBatch, Vectors, id_array
from vecmigrate.report.schema import ProbeKind


class Role(IntEnum):
    """What a probe is for."""

    MAIN = 0
    """Recall is estimated on it."""

    LABELLED = 1
    """Only its labelled documents are re-embedded, for the labelled metrics."""

    DOCUMENT = 2
    """A document as a query, beside those of a log: how much easier is it?"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe before it is encoded; ``own`` is the id of the document that it is, if it is one."""

    id: PointId
    text: str | None
    relevant: Mapping[PointId, float]
    role: Role
    own: PointId | None = None


@dataclass(frozen=True, slots=True)
class Probes:
    """Encoded probes.

    Attributes
    ----------
    asked
        What they are.
    queries
        ``(n, d)`` under the new encoder.
    old_queries
        ``(n, d)`` under the old encoder; None if it was not given.
    """

    asked: list[Asked]
    queries: Vectors
    old_queries: Vectors | None

    def __len__(self) -> int:
        return len(self.asked)

    def of(self, rows: slice) -> Probes:
        """Return some of them."""
        old = None if self.old_queries is None else self.old_queries[rows]
        return Probes(self.asked[rows], self.queries[rows], old)

    def rows(self, *roles: Role) -> NDArray[np.intp]:
        """Positions of the probes of these roles."""
        return np.flatnonzero([probe.role in roles for probe in self.asked])


@dataclass(frozen=True, slots=True)
class Choice:
    """Probes to be encoded.

    Attributes
    ----------
    asked
        In the order in which they are bought for, but for the main ones, which come last.
    kind
        Of the main ones.
    available
        Queries in the log, or documents in the corpus.
    left_out
        How many were left out, by reason: ``without_text``, ``duplicates``, ``anchors_excluded``.
    """

    asked: list[Asked]
    kind: ProbeKind
    available: int
    left_out: Counter[str]


def choose_probes(
    session: Session,
    shares: Shares,
    queries: Sequence[Query] | None,
    anchor_texts: Sequence[str | None],
    documents: Sample,
    anchors_excluded: int,
) -> Choice:
    """Choose probes of each role.

    Parameters
    ----------
    documents
        A uniform sample, none of it bought for another reason.
    anchors_excluded
        How many were taken out of that sample for being anchors.

    Raises
    ------
    InputError
        If no query can be used.
    """
    usable = documents.usable(needs_texts=session.encoder.needs_texts)
    if queries is None:
        asked = _documents(usable, shares.main, Role.MAIN)
        left_out = Counter(anchors_excluded=anchors_excluded)
        return Choice(asked, ProbeKind.DOCUMENTS, session.population, left_out)
    needs_texts = session.query_encoder.needs_texts
    log, left_out = _usable(queries, anchor_texts, needs_texts=needs_texts)
    if not log:
        raise InputError(
            f"none of {len(queries):,} queries can be used: {left_out['without_text']:,} have no "
            f"text, {left_out['anchors_excluded']:,} are anchors' own texts",
            remedy="Give a log of queries with texts.",
        )
    log = [log[row] for row in session.rng(1).permutation(len(log))]
    main, rest = log[: shares.main], log[shares.main :]
    labelled = [query for query in rest if query.relevant][: shares.labelled]
    asked = _documents(usable, shares.documents, Role.DOCUMENT)
    for role, of_role in ((Role.LABELLED, labelled), (Role.MAIN, main)):
        asked += [Asked(query.id, query.text, query.relevant, role) for query in of_role]
    return Choice(asked, ProbeKind.QUERY_LOG, len(queries), left_out)


def _usable(
    queries: Sequence[Query], anchor_texts: Sequence[str | None], *, needs_texts: bool
) -> tuple[list[Query], Counter[str]]:
    """Leave out queries without text, repeated ones, and those whose text is an anchor's."""
    anchors = {(text or "").strip() for text in anchor_texts} - {""}
    reasons = dict.fromkeys(anchors, "anchors_excluded")
    if needs_texts:
        reasons[""] = "without_text"
    kept: list[Query] = []
    left_out: Counter[str] = Counter()
    for query in queries:
        text = (query.text or "").strip()
        if text in reasons:
            left_out[reasons[text]] += 1
            continue
        kept.append(query)
        if text:
            reasons[text] = "duplicates"
    return kept, left_out


def _documents(sample: Sample, count: int, role: Role) -> list[Asked]:
    ids = sample.points.ids[:count].tolist()
    return [
        Asked(point, text, {}, role, own=point)
        for point, text in zip(ids, sample.texts[:count], strict=True)
    ]


def encode_probes(session: Session, asked: Sequence[Asked], documents: VectorBatch) -> Probes:
    """Encode probes under the new encoder, and under the old one if it is given.

    Parameters
    ----------
    documents
        Those that are probes, among others, with their old vectors.
    """
    vectors = np.empty((len(asked), session.encoder.identity.dimension), np.float32)
    own = [row for row, probe in enumerate(asked) if probe.own is not None]
    logged = [row for row, probe in enumerate(asked) if probe.own is None]
    with session.stage("encoding queries", len(asked), unit="text") as advance:
        for rows, documents_ask in ((own, True), (logged, False)):
            texts = [asked[row].text for row in rows]
            ids = id_array(asked[row].id for row in rows)
            # A ready-made vector of a document is in the documents' file.
            looked_up = documents_ask and not session.encoder.needs_texts
            encoder = session.encoder if looked_up else session.query_encoder
            role: EncoderRole = "document" if looked_up else "query"
            vectors[rows] = encoder.encode(texts, ids=ids, role=role, progress=advance)
    return Probes(list(asked), vectors, _old_queries(session, asked, documents))


def _old_queries(
    session: Session, asked: Sequence[Asked], documents: VectorBatch
) -> Vectors | None:
    encoder = session.old_encoder
    if encoder is None:
        return None
    old = np.empty((len(asked), session.description.dimension), np.float32)
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
