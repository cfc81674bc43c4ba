"""Documents whose true vectors are known, and their true scores for each probe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.candidates import Candidates, Column
from vecmigrate.dry_run.imputation import DEEPEST_CUTOFF
from vecmigrate.evaluation.search import score_matrix
from vecmigrate.points.batch import IdArray, Vectors, id_array
from vecmigrate.points.collection import Metric
from vecmigrate.points.ids import IdLookup, lookup_of


@dataclass(frozen=True)
class Known:
    """Anchors first, then what was bought; no id twice.

    Attributes
    ----------
    ids, vectors
        ``(k,)`` and ``(k, d)`` under the new encoder.
    anchors
        How many are anchors.
    """

    ids: IdArray
    vectors: Vectors
    anchors: int

    @cached_property
    def _lookup(self) -> IdLookup:
        return lookup_of(self.ids)

    def rows_of(self, ids: IdArray) -> NDArray[np.intp]:
        """Rows of ids of any shape, -1 where not known."""
        return self._lookup.rows(id_array(ids.ravel())).reshape(ids.shape)


@dataclass(frozen=True, slots=True)
class TrueScores:
    """True scores of some probes.

    Attributes
    ----------
    all
        ``(probes, k)`` of every known document.
    candidates
        ``(probes, m)``, NaN where not known.
    anchors
        ``(probes, m)``: which candidates are anchors.
    beyond, beyond_rows
        ``(probes, e)``: the best known ones that are no candidates, and their rows in ``all``;
        scores are ``-inf`` where there are fewer.
    """

    all: Column
    candidates: Column
    anchors: NDArray[np.bool_]
    beyond: Column
    beyond_rows: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        known: Known,
        queries: Vectors,
        candidates: Candidates,
        own: IdArray,
        metric: Metric,
    ) -> TrueScores:
        """Score known documents for ``(probes, d)`` queries.

        Parameters
        ----------
        own
            ``(probes,)`` objects: the document that a probe itself is, else None.
        """
        everything = score_matrix(queries, known.vectors, metric)
        for probe, point in enumerate(own):
            if point is not None:
                everything[probe, known.ids == point] = -np.inf
        rows = known.rows_of(candidates.ids)
        found = (rows >= 0) & np.isfinite(candidates.scores)
        scores = np.take_along_axis(everything, np.maximum(rows, 0), axis=1)
        outside = everything.copy()
        probe_of, column = np.nonzero(found)
        outside[probe_of, rows[probe_of, column]] = -np.inf
        e = min(DEEPEST_CUTOFF, outside.shape[1])
        best = np.argpartition(-outside, e - 1, axis=1)[:, :e]
        return cls(
            all=everything,
            candidates=np.where(found, scores, np.float32(np.nan)),
            anchors=found & (rows < known.anchors),
            beyond=np.take_along_axis(outside, best, axis=1),
            beyond_rows=best,
        )
