"""Which documents are worth re-embedding to measure the map, within the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.dry_run.probes import Asked, Log, Probes, Role, from_documents, from_log, usable_log
from vecmigrate.dry_run.sample import Sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.survey import OLD_DEPTH, Survey
from vecmigrate.dry_run.truth import Known
from vecmigrate.encoders.metered import count_tokens
from vecmigrate.errors import InputError, UsageError
from vecmigrate.evaluation import Query
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, Vectors, id_array, row_norms
from vecmigrate.report.schema import EncoderCheck, ProbeKind

FIRST = 10
"""Each probe's first translated results are all re-embedded."""

DEEPER = 10
"""So many further candidates of each probe, drawn with odds that fall with the rank."""

STEEPNESS = 1.5

LABELS_EACH = 20
"""At most so many labelled documents of a probe are re-embedded."""

DOCUMENTS_PER_PROBE = 15
"""About what a probe takes, its documents shared with other probes not counted twice."""

OLD_DOCUMENTS_PER_PROBE = 5
"""And so many more where the old collection's nearest are re-embedded too."""

MIN_PROBES = 20
"""Below, no interval is worth printing."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How a budget is laid out, in texts.

    Attributes
    ----------
    uniform
        Documents of a uniform sample: the calibration plot, and differences at every rank.
    main, labelled, documents
        Probes of each role.
    sure
        Main probes that are covered even where they share no document.
    """

    uniform: int
    main: int
    labelled: int
    documents: int
    sure: int

    @classmethod
    def of(cls, texts: int, *, with_log: bool, with_old: bool, labelled: int) -> Shares:
        """Lay out ``texts``, of which ``labelled`` at most go to further labelled probes."""
        uniform = int(np.clip(texts // 15, 20, 300))
        each = 1 + DOCUMENTS_PER_PROBE + (OLD_DOCUMENTS_PER_PROBE if with_old else 0)
        rest = max(0, texts - uniform)
        documents = rest // 10 // each if with_log else 0
        further = min(labelled, rest // 10 // 2)
        left = rest - documents * each - 2 * further
        # Rather too many: which of them the budget covers is seen when candidates are known.
        main = round(1.2 * left / each)
        unshared = FIRST + DEEPER + (OLD_DEPTH if with_old else 0) + 1
        return cls(
            uniform=uniform,
            main=main,
            labelled=further,
            documents=documents,
            sure=(left - main) // unshared,
        )


def wanted_documents(
    probe: int, asked: Asked, survey: Survey, rng: np.random.Generator
) -> list[PointId]:
    """List what to re-embed for one probe: its first results, some deeper ones, old ones, labels.

    A :attr:`Role.LABELLED` probe wants its labelled documents only.
    """
    wanted: list[PointId] = []
    if asked.role is not Role.LABELLED:
        candidates = survey.candidates
        present = int(np.isfinite(candidates.scores[probe]).sum())
        ids = candidates.ids[probe, :present].tolist()
        wanted += ids[:FIRST]
        wanted += [ids[rank] for rank in _deeper(present, rng)]
        if survey.old is not None:
            there = np.isfinite(survey.old.scores[probe])
            wanted += survey.old.ids[probe][there].tolist()
    relevant = sorted(asked.relevant, key=lambda i: -asked.relevant[i])
    wanted += [i for i in relevant if i not in survey.unknown_labels][:LABELS_EACH]
    return list(dict.fromkeys(wanted))


def _deeper(present: int, rng: np.random.Generator) -> NDArray[np.intp]:
    ranks = np.arange(FIRST, present)
    if len(ranks) <= DEEPER:
        return ranks
    odds = (ranks + 1.0) ** -STEEPNESS
    return rng.choice(ranks, DEEPER, replace=False, p=odds / odds.sum())


def affordable(
    wanted: Sequence[Sequence[PointId]],
    known: set[PointId],
    tokens: dict[PointId, int],
    texts_left: int | None,
    tokens_left: int | None,
) -> int:
    """Count how many probes, in order, can be paid for; ``known`` documents are free."""
    paid = set(known)
    texts = spent = 0
    for count, ids in enumerate(wanted):
        fresh = [i for i in ids if i not in paid and i in tokens]
        texts += len(fresh)
        spent += sum(tokens[i] for i in fresh)
        over_texts = texts_left is not None and texts > texts_left
        over_tokens = tokens_left is not None and spent > tokens_left
        if over_texts or over_tokens:
            return count
        paid.update(fresh)
    return len(wanted)


def informative(
    survey_ids: IdArray, old: IdArray | None, asked: Sequence[Asked]
) -> NDArray[np.bool_]:
    """Tell ``(probes, m)`` candidates that were bought for another reason than their rank.

    Their true scores are not like those of others at their rank: what the old collection finds,
    and what is labelled, tends to be nearer.
    """
    marked = np.zeros(survey_ids.shape, np.bool_)
    for row, probe in enumerate(asked):
        special = set(probe.relevant)
        if old is not None:
            special.update(old[row].tolist())
        if special:
            ids = survey_ids[row, FIRST:].tolist()
            marked[row, FIRST:] = [i in special for i in ids]
    return marked


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
    job: Session,
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


def encode_probes(job: Session, asked: Sequence[Asked], documents: VectorBatch) -> Probes:
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


def _old_queries(job: Session, asked: Sequence[Asked], documents: VectorBatch) -> Vectors | None:
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


CHECKED_TEXTS = 32

SAME = 0.999
"""An encoder's two answers for one text have at least this cosine."""


def texts_for(job: Session, ids: IdArray) -> list[str | None]:
    """Texts of documents; all None where the encoder looks vectors up and there are none."""
    if not job.encoder.needs_texts and job.description.text_field is None:
        return [None] * len(ids)
    return job.source.texts(ids)


def embed_documents(job: Session, ids: IdArray, texts: Sequence[str | None], known: Known) -> Known:
    """Add these documents to what is known; none of them may be known already."""
    with job.stage("encoding documents", len(ids), unit="text") as advance:
        vectors = job.documents.vectors(ids, texts, advance)
    job.spent.documents += len(ids)
    job.spent.tokens += sum(count_tokens(job.encoder, texts))
    return Known(
        id_array([*known.ids.tolist(), *ids.tolist()]),
        np.concatenate([known.vectors, vectors]),
        known.anchors,
    )


def anchors_as_known(anchors: AnchorSet) -> Known:
    """What is known before anything is bought."""
    return Known(anchors.ids, anchors.target_vectors, len(anchors))


def check_encoder(
    job: Session, ids: IdArray, texts: Sequence[str | None], first: Vectors
) -> EncoderCheck | None:
    """Ask the encoder again for a few texts; None for ready-made vectors.

    Parameters
    ----------
    first
        ``(n, d)``: its first answers, row i for text i.

    Raises
    ------
    InputError
        Where the two answers differ.
    """
    ids, texts = ids[:CHECKED_TEXTS], list(texts[:CHECKED_TEXTS])
    if not job.encoder.needs_texts or not len(ids):
        return None
    first = first[: len(ids)]
    again = job.documents.encode(ids, texts)
    job.spent.documents += len(ids)
    job.spent.tokens += sum(count_tokens(job.encoder, texts))
    cosines = np.einsum("ij,ij->i", first, again) / (row_norms(first) * row_norms(again))
    lowest = float(cosines.min())
    if lowest < SAME:
        raise InputError(
            f"{job.encoder.identity} gave two vectors of cosine {lowest:.4f} for the text of id "
            f"{ids[int(cosines.argmin())]}",
            remedy="An encoder must give the same vector each time: look for dropout, a changed "
            "model behind the name, or another --out folder's vectors.",
        )
    return EncoderCheck(texts=len(ids), lowest_cosine=min(lowest, 1.0))


def buy_for_probes(
    job: Session, probes: Probes, survey: Survey, known: Known
) -> tuple[Probes, Survey, Known]:
    """Re-embed what probes want, as far as the budget goes, and leave out probes beyond it.

    Raises
    ------
    UsageError
        Where it does not reach for ``MIN_PROBES`` main probes.
    """
    rng = job.rng(2)
    wanted = [wanted_documents(row, asked, survey, rng) for row, asked in enumerate(probes.asked)]
    already = set(known.ids.tolist())
    fresh = id_array(dict.fromkeys(i for ids in wanted for i in ids if i not in already))
    texts = dict(zip(fresh.tolist(), texts_for(job, fresh), strict=True))
    usable: list[PointId] = [i for i in texts if texts[i] or not job.encoder.needs_texts]
    tokens = dict(zip(usable, count_tokens(job.encoder, [texts[i] for i in usable]), strict=True))
    count = affordable(wanted, already, tokens, job.texts_left(), job.tokens_left())
    main = sum(asked.role is Role.MAIN for asked in probes.asked[:count])
    if main < min(MIN_PROBES, sum(asked.role is Role.MAIN for asked in probes.asked)):
        raise too_small(job, main)
    paid = id_array(dict.fromkeys(i for ids in wanted[:count] for i in ids if i in tokens))
    known = embed_documents(job, paid, [texts[i] for i in paid.tolist()], known)
    rows = slice(0, count)
    kept = Probes(
        probes.asked[rows],
        probes.queries[rows],
        None if probes.old_queries is None else probes.old_queries[rows],
    )
    old = None if survey.old is None else survey.old.of(rows)
    return kept, replace(survey, candidates=survey.candidates.of(rows), old=old), known


def too_small(job: Session, main: int) -> UsageError:
    """The error for a budget that no estimate can be made with."""
    return UsageError(
        f"a budget of {job.budget} reaches for {main} probes, too few for any estimate",
        remedy=f"Raise --budget so that at least {MIN_PROBES} are covered, or lower --anchors.",
    )
