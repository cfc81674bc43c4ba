"""Which documents are worth re-embedding to measure the map, within the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.probes import Asked, Probes, Role
from vecmigrate.dry_run.sample import MIN_PROBES, Sample
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.shares import CHECKED_TEXTS, DEEPER, FIRST, too_small
from vecmigrate.dry_run.survey import Survey
from vecmigrate.dry_run.truth import Known
from vecmigrate.encoders.constancy import SAME, cosines_again
from vecmigrate.errors import InputError
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
from vecmigrate.report.schema import EncoderCheck

STEEPNESS = 1.5

LABELS_EACH = 20
"""At most so many labelled documents of a probe are re-embedded."""


def wanted_documents(
    probe: int, asked: Asked, survey: Survey, rng: np.random.Generator
) -> tuple[list[PointId], NDArray[np.intp]]:
    """List what to re-embed for one probe: its first results, some deeper ones, old ones, labels.

    A :attr:`Role.LABELLED` probe wants its labelled documents only.

    Returns
    -------
    tuple
        The documents, and the ranks of those that chance has drawn among the probe's candidates.
    """
    wanted: list[PointId] = []
    drawn = np.empty(0, np.intp)
    if asked.role is not Role.LABELLED:
        candidates = survey.candidates
        present = int(np.isfinite(candidates.scores[probe]).sum())
        ids = candidates.ids[probe, :present].tolist()
        drawn = np.append(np.arange(min(FIRST, present)), _deeper(present, rng))
        wanted += [ids[rank] for rank in drawn.tolist()]
        if survey.old is not None:
            there = np.isfinite(survey.old.scores[probe])
            wanted += survey.old.ids[probe][there].tolist()
    relevant = sorted(asked.relevant, key=lambda i: -asked.relevant[i])
    wanted += [i for i in relevant if i not in survey.unknown_labels][:LABELS_EACH]
    return list(dict.fromkeys(wanted)), drawn


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


def check_encoder(session: Session, sample: Sample, first: Vectors) -> EncoderCheck | None:
    """Ask the encoder again for a few texts; None for ready-made vectors.

    Parameters
    ----------
    first
        ``(n, d)``: its first answers, row i for point i of the sample.

    Raises
    ------
    InputError
        If the two answers differ.
    """
    ids, texts = sample.points.ids[:CHECKED_TEXTS], sample.texts[:CHECKED_TEXTS]
    if not session.encoder.needs_texts or not len(ids):
        return None
    first = first[: len(ids)]
    cosines = cosines_again(session.encoder, ids, texts, first)
    lowest = float(cosines.min())
    if lowest < SAME:
        raise InputError(
            f"{session.encoder.identity} gave two vectors of cosine {lowest:.4f} for the text of "
            f"id {ids[int(cosines.argmin())]}",
            remedy="An encoder must give the same vector each time: look for dropout, a changed "
            "model behind the name, or another --out folder's vectors.",
        )
    return EncoderCheck(texts=len(ids), lowest_cosine=min(lowest, 1.0))


@dataclass(frozen=True, slots=True)
class Purchases:
    """The probes that the budget covers, what was found for them, and what is known now.

    Attributes
    ----------
    drawn
        ``(probes, m)``: candidates that were bought for no other reason than their rank.
    """

    probes: Probes
    survey: Survey
    known: Known
    drawn: NDArray[np.bool_]


def buy_for_probes(session: Session, probes: Probes, survey: Survey, known: Known) -> Purchases:
    """Re-embed what probes want, as far as the budget goes, and leave out probes beyond it.

    Raises
    ------
    UsageError
        If it does not reach for ``MIN_PROBES`` main probes.
    """
    encoder, rng = session.encoder, session.rng(2)
    wanted, drawn = [], np.zeros(survey.candidates.ids.shape, np.bool_)
    for row, asked in enumerate(probes.asked):
        ids, ranks = wanted_documents(row, asked, survey, rng)
        wanted.append(ids)
        drawn[row, ranks] = True
    already = set(known.ids.tolist())
    fresh = id_array(dict.fromkeys(i for ids in wanted for i in ids if i not in already))
    texts = dict(zip(fresh.tolist(), session.texts(fresh), strict=True))
    usable: list[PointId] = [i for i in texts if texts[i] or not encoder.needs_texts]
    tokens = dict(zip(usable, encoder.count_tokens([texts[i] for i in usable]), strict=True))
    left = encoder.meter.left
    count = affordable(wanted, already, tokens, left.texts, left.tokens)
    main = sum(asked.role is Role.MAIN for asked in probes.asked[:count])
    if main < min(MIN_PROBES, len(probes.rows(Role.MAIN))):
        raise too_small(session, main)
    paid = id_array(dict.fromkeys(i for ids in wanted[:count] for i in ids if i in tokens))
    vectors = session.embed(paid, [texts[i] for i in paid.tolist()])
    rows = slice(0, count)
    return Purchases(probes.of(rows), survey.of(rows), known.plus(paid, vectors), drawn[rows])
