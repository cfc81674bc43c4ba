"""Probes: what stands for what users will ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vecmigrate.evaluation import Query
from vecmigrate.points.batch import IdArray, PointId, Vectors


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
        ``(n, d)`` under the old encoder; None where it was not given.
    """

    asked: list[Asked]
    queries: Vectors
    old_queries: Vectors | None

    def __len__(self) -> int:
        return len(self.asked)

    def rows(self, *roles: Role) -> NDArray[np.intp]:
        """Positions of the probes of these roles."""
        return np.flatnonzero([probe.role in roles for probe in self.asked])


@dataclass(frozen=True, slots=True)
class Log:
    """A query log fit for use, in random order, and what was left out of it."""

    queries: list[Query]
    available: int
    without_text: int
    duplicates: int
    anchors_excluded: int


def usable_log(
    queries: Sequence[Query],
    anchor_texts: Sequence[str | None],
    rng: np.random.Generator,
    *,
    needs_texts: bool,
) -> Log:
    """Leave out queries without text, repeated ones, and those whose text is an anchor's."""
    anchors = {text.strip() for text in anchor_texts if text}
    seen: set[str] = set()
    kept: list[Query] = []
    without_text = duplicates = anchors_excluded = 0
    for query in queries:
        text = (query.text or "").strip()
        if not text:
            if needs_texts:
                without_text += 1
            else:
                kept.append(query)
        elif text in seen:
            duplicates += 1
        elif text in anchors:
            anchors_excluded += 1
        else:
            seen.add(text)
            kept.append(query)
    order = rng.permutation(len(kept))
    return Log(
        queries=[kept[i] for i in order],
        available=len(queries),
        without_text=without_text,
        duplicates=duplicates,
        anchors_excluded=anchors_excluded,
    )


def from_log(queries: Sequence[Query], role: Role) -> list[Asked]:
    """Make probes of logged queries."""
    return [Asked(q.id, q.text, q.relevant, role) for q in queries]


def from_documents(ids: IdArray, texts: Sequence[str | None], role: Role) -> list[Asked]:
    """Make probes of documents."""
    return [
        Asked(point, text, {}, role, own=point)
        for point, text in zip(ids.tolist(), texts, strict=True)
    ]
