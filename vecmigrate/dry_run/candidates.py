"""The best candidates of each probe, gathered while batches stream by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray

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
        ``(probes, m)`` float32; ``-inf`` where there is no candidate.
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
            The same names each time; ``(b,)``, or ``(probes, b)`` where they differ by probe.
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
        if scores.shape[1] > self.depth:
            best = np.argpartition(-scores, self.depth, axis=1)[:, : self.depth]
            all_ids, scores = (np.take_along_axis(a, best, axis=1) for a in (all_ids, scores))
            fresh = {n: np.take_along_axis(v, best, axis=1) for n, v in fresh.items()}
        self.ids, self.scores, self.columns = all_ids, scores, fresh

    def sort(self) -> None:
        """Put the best first; call it once, when all batches are in."""
        order = np.argsort(-self.scores, axis=1, kind="stable")
        self.ids = np.take_along_axis(self.ids, order, axis=1)
        self.scores = np.take_along_axis(self.scores, order, axis=1)
        self.columns = {
            name: np.take_along_axis(values, order, axis=1) for name, values in self.columns.items()
        }

    def of(self, probes: NDArray[np.intp] | slice) -> Candidates:
        """Return some probes' candidates."""
        columns = {name: values[probes] for name, values in self.columns.items()}
        return Candidates(self.depth, self.ids[probes], self.scores[probes], columns)
