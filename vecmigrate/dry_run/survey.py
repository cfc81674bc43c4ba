"""The one pass over the corpus: translate every vector, keep each probe's candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.probes import Probes
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.shares import OLD_DEPTH
from vecmigrate.evaluation.search import greatest, score_matrix
from vecmigrate.points.batch import IdArray, PointId, VectorBatch, id_array
from vecmigrate.points.ids import lookup_of
from vecmigrate.translators import Translator

DEPTH = 1024
"""Candidates kept for each probe."""

SAMPLED_VALUES = 20_000
"""Documents whose variance and traffic stand for the corpus's."""

VARIANCE, TRAFFIC = "uncertainty", "traffic"


@dataclass(frozen=True, slots=True)
class Survey:
    """What the pass found.

    Attributes
    ----------
    candidates
        Of each probe in the translated collection; columns ``uncertainty`` and ``traffic`` if
        the translator tells a variance and there is a log.
    old
        Each probe's nearest in the old collection; None without the old encoder.
    population
        Usable points.
    unknown_labels
        Labelled ids that were not met.
    values
        By column, the values of a uniform sample of the points that are no anchors.
    """

    candidates: Candidates
    old: Candidates | None
    population: int
    unknown_labels: frozenset[PointId]
    values: Mapping[str, Column]

    def of(self, probes: slice) -> Survey:
        """Return what was found for some probes."""
        old = None if self.old is None else self.old.of(probes)
        return replace(self, candidates=self.candidates.of(probes), old=old)

    def share_before(self, name: str) -> NDArray[np.floating]:
        """For each candidate, the share of what is no anchor with a greater value here."""
        everything = np.sort(self.values[name])
        return 1 - np.searchsorted(everything, self.candidates.columns[name]) / len(everything)


def survey(
    session: Session,
    translator: Translator,
    probes: Probes,
    batches: Iterable[VectorBatch],
    anchors: IdArray,
) -> Survey:
    """Translate the source batch by batch; memory is that of a batch and the candidates."""
    is_anchor = lookup_of(anchors)
    metric, rng = session.description.metric, session.rng(3)
    log_rows = np.flatnonzero([probe.own is None for probe in probes.asked])
    leave_out_own = _leaving_out_own(probes)
    candidates = Candidates(DEPTH)
    old = None if probes.old_queries is None else Candidates(OLD_DEPTH)
    unknown = {i for probe in probes.asked for i in probe.relevant}
    values: dict[str, list[Column]] = {}
    population = 0
    share = min(1.0, SAMPLED_VALUES / max(session.population, 1))
    for batch in batches:
        columns: dict[str, Column] = {}
        inputs = translator.inputs(batch.vectors, batch.texts(session.description.text_field))
        if translator.tells_variance:
            vectors, columns[VARIANCE] = translator.transform_with_variance(inputs)
        else:
            vectors = translator.transform(inputs)
        scores = score_matrix(probes.queries, vectors, metric)
        overall = columns
        if len(log_rows) > 1:
            nearest, of_others = _traffic(scores, log_rows)
            overall = {TRAFFIC: nearest, **columns}
            columns = {TRAFFIC: of_others, **columns}
        sampled = np.flatnonzero((rng.random(len(batch)) < share) & (is_anchor.rows(batch.ids) < 0))
        for name, column in overall.items():
            values.setdefault(name, []).append(column[sampled])
        leave_out_own(scores, batch.ids)
        candidates.add(batch.ids, scores, **columns)
        if old is not None and probes.old_queries is not None:
            scores = score_matrix(probes.old_queries, batch.vectors, metric)
            leave_out_own(scores, batch.ids)
            old.add(batch.ids, scores)
        unknown.difference_update(batch.ids.tolist())
        population += len(batch)
    for found in (candidates, old):
        if found is not None:
            found.sort()
    sampled_values = {name: np.concatenate(parts) for name, parts in values.items()}
    return Survey(candidates, old, population, frozenset(unknown), sampled_values)


def _traffic(scores: Column, log_rows: NDArray[np.intp]) -> tuple[Column, Column]:
    """How near each point is to any logged query: overall, and for each probe without itself.

    A probe stands for a query to come, which is not in the log.
    """
    logged = scores[log_rows]
    overall = logged.max(axis=0)
    best = logged.argmax(axis=0)
    second = np.partition(logged, -2, axis=0)[-2]
    others = np.broadcast_to(overall, scores.shape).copy()
    others[log_rows[best], np.arange(scores.shape[1])] = second
    return overall, others


def _leaving_out_own(probes: Probes) -> Callable[[Column, IdArray], None]:
    """Return what takes the documents that probes are out of scores: none answers itself."""
    rows = np.flatnonzero([probe.own is not None for probe in probes.asked])
    lookup = lookup_of(id_array(probes.asked[row].own or 0 for row in rows))

    def leave_out(scores: Column, ids: IdArray) -> None:
        at = lookup.rows(ids) if len(rows) else np.full(len(ids), -1)
        met = np.flatnonzero(at >= 0)
        scores[rows[at[met]], met] = -np.inf

    return leave_out


Column = NDArray[np.float32]
"""A number for each candidate."""


@dataclass
class Candidates:
    """Each probe's ``depth`` best points so far, best first.

    Attributes
    ----------
    ids
        ``(probes, m)`` with m at most ``depth``.
    scores
        ``(probes, m)`` float32; ``-inf`` if there is no candidate.
    columns
        Further ``(probes, m)`` numbers by name.
    """

    depth: int
    ids: IdArray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    scores: Column = field(default_factory=lambda: np.empty((0, 0), np.float32))
    columns: dict[str, Column] = field(default_factory=dict)

    def add(self, ids: IdArray, scores: Column, **columns: Column) -> None:
        """Merge a batch.

        Parameters
        ----------
        ids
            ``(b,)``.
        scores
            ``(probes, b)``; ``-inf`` for a point that is no candidate of a probe.
        columns
            The same names each time; ``(b,)``, or ``(probes, b)`` if they differ by probe.
        """
        shape = scores.shape
        fresh = {name: np.broadcast_to(values, shape) for name, values in columns.items()}
        all_ids = np.broadcast_to(ids, shape)
        if self.scores.size:
            if self.ids.dtype != ids.dtype:
                self.ids, all_ids = self.ids.astype(object), all_ids.astype(object)
            all_ids = np.concatenate([self.ids, all_ids], axis=1)
            scores = np.concatenate([self.scores, scores], axis=1)
            fresh = {n: np.concatenate([self.columns[n], v], axis=1) for n, v in fresh.items()}
        self.ids, self.scores, self.columns = all_ids, scores, fresh
        if scores.shape[1] > self.depth:
            self._keep(greatest(scores, self.depth))

    def sort(self) -> None:
        """Put the best first; call it once, when all batches are in."""
        self._keep(np.argsort(-self.scores, axis=1, kind="stable"))

    def _keep(self, best: NDArray[np.intp]) -> None:
        """Keep ``(probes, m)`` of each probe's candidates, in this order."""
        self.ids = np.take_along_axis(self.ids, best, axis=1)
        self.scores = np.take_along_axis(self.scores, best, axis=1)
        for name, values in self.columns.items():
            self.columns[name] = np.take_along_axis(values, best, axis=1)

    def of(self, probes: NDArray[np.intp] | slice) -> Candidates:
        """Return some probes' candidates."""
        columns = {name: values[probes] for name, values in self.columns.items()}
        return Candidates(self.depth, self.ids[probes], self.scores[probes], columns)
