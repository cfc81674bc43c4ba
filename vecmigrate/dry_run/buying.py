"""Re-embeds documents: a uniform sample, a check of the encoder, and what probes want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vecmigrate.anchors import AnchorSet
from vecmigrate.dry_run.job import Job
from vecmigrate.dry_run.known import Known
from vecmigrate.dry_run.probes import Probes, Role
from vecmigrate.dry_run.purchases import MIN_PROBES, affordable, wanted_documents
from vecmigrate.dry_run.survey import Survey
from vecmigrate.encoders.metered import count_tokens
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array, row_norms
from vecmigrate.report.schema import EncoderCheck

CHECKED_TEXTS = 32

SAME = 0.999
"""An encoder's two answers for one text have at least this cosine."""


def texts_for(job: Job, ids: IdArray) -> list[str | None]:
    """Texts of documents; all None where the encoder looks vectors up and there are none."""
    if not job.encoder.needs_texts and job.description.text_field is None:
        return [None] * len(ids)
    return job.source.texts(ids)


def embed_documents(job: Job, ids: IdArray, texts: Sequence[str | None], known: Known) -> Known:
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
    job: Job, ids: IdArray, texts: Sequence[str | None], first: Vectors
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
    job: Job, probes: Probes, survey: Survey, known: Known
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


def too_small(job: Job, main: int) -> UsageError:
    """The error for a budget that no estimate can be made with."""
    return UsageError(
        f"a budget of {job.budget} reaches for {main} probes, too few for any estimate",
        remedy=f"Raise --budget so that at least {MIN_PROBES} are covered, or lower --anchors.",
    )
