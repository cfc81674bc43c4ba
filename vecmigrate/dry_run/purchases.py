"""Which documents are worth re-embedding to measure the map, within the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.probes import Asked, Role
from vecmigrate.dry_run.survey import OLD_DEPTH, Survey
from vecmigrate.points.batch import IdArray, PointId

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
