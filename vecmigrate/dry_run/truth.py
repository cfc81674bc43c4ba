"""Documents whose true vectors are known, and their true scores for each probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.survey import Candidates, Column
from vecmigrate.evaluation.search import greatest, score_matrix
from vecmigrate.points.batch import IdArray, PointId, Vectors, id_array
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

    def plus(self, ids: IdArray, vectors: Vectors) -> Known:
        """Return this and more documents; none of them may be known already."""
        return Known(
            id_array([*self.ids.tolist(), *ids.tolist()]),
            np.concatenate([self.vectors, vectors]),
            self.anchors,
        )

    @cached_property
    def _lookup(self) -> IdLookup:
        return lookup_of(self.ids)

    def rows_of(self, ids: IdArray) -> NDArray[np.intp]:
        """Rows of ids of any shape, -1 if not known."""
        return self._lookup.rows(id_array(ids.ravel())).reshape(ids.shape)


@dataclass(frozen=True, slots=True)
class TrueScores:
    """True scores of some probes.

    Attributes
    ----------
    all
        ``(probes, k)`` of every known document.
    candidates
        ``(probes, m)``, NaN if not known.
    anchors
        ``(probes, m)``: which candidates are anchors.
    beyond, beyond_rows
        ``(probes, e)``: the best known ones that are no candidates, and their rows in ``all``;
        scores are ``-inf`` if there are fewer.
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
        own: Sequence[PointId | None],
        metric: Metric,
    ) -> TrueScores:
        """Score known documents for ``(probes, d)`` queries.

        Parameters
        ----------
        own
            The document that each probe itself is, if it is one.
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
        best = greatest(outside, e)
        return cls(
            all=everything,
            candidates=np.where(found, scores, np.float32(np.nan)),
            anchors=found & (rows < known.anchors),
            beyond=np.take_along_axis(outside, best, axis=1),
            beyond_rows=best,
        )


DRAWS = 10

RANK_EDGES = (0, 10, 20, 40, 80, 160, 320, 640)
"""Candidates of one stretch of ranks share their differences."""

LEAST_FACTOR = 0.1

LEAST_DRAWN = 50
"""With fewer differences nothing is explained by traits."""

SMALL_SQUARE = 0.01
"""Keeps the logarithm of a squared difference, in spreads, from running away."""

DEEPEST_CUTOFF = 100
"""The greatest k of recall@k."""


@dataclass(frozen=True, slots=True)
class Imputed:
    """Complete true scores, several times over.

    Attributes
    ----------
    scores
        ``(draws, probes, m)`` float32: the candidates', in the order of their translated rank.
    beyond
        ``(probes, e)`` float32: known true scores of points that are no candidates; ``-inf`` pads.
    population
        Points in the corpus.
    known_share
        Share of the points beyond the candidates whose true score is known.
    """

    scores: NDArray[np.float32]
    beyond: Column
    population: int
    known_share: float

    def best(self, k: int) -> NDArray[np.float32]:
        """The ``(draws, probes, k)`` greatest true scores that are known or imputed, best first."""
        draws = len(self.scores)
        beyond = np.broadcast_to(self.beyond, (draws, *self.beyond.shape))
        everything = np.concatenate([self.scores, beyond], axis=2)
        k = min(k, everything.shape[2])
        top = -np.partition(-everything, k - 1, axis=2)[:, :, :k]
        return -np.sort(-top, axis=2)

    def beyond_rate(self, threshold: NDArray[np.float32]) -> float:
        """Expected points of a probe that score above ``threshold`` unseen, beyond its candidates.

        ``threshold`` is ``(draws, probes)``.
        """
        depth = self.scores.shape[2]
        if depth >= self.population:
            return 0.0
        inside = self.scores >= threshold[..., None]
        per_probe = inside.sum(axis=(0, 1)) / inside[..., 0].size
        first, second, last = (
            per_probe[depth >> (back + 1) : depth >> back].sum() for back in (2, 1, 0)
        )
        if min(first, second) == 0:
            return 0.0
        fall = min(last / second, 1.0)
        steeper = min(fall * first / second, 1.0)
        rate, doubling, left = 0.0, float(last), float(np.log2(self.population / depth))
        while left > 0 and doubling > 1e-6:
            fall *= steeper
            doubling *= fall
            rate += doubling * min(left, 1.0)
            left -= 1
        return float(rate * (1 - self.known_share))


def impute(
    translated: Column,
    true: Column,
    shown: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    traits: Sequence[NDArray[np.floating]],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> NDArray[np.float32]:
    """Return ``(draws, probes, m)`` true scores.

    Parameters
    ----------
    translated
        ``(probes, m)`` scores, best first.
    true
        ``(probes, m)`` true scores, NaN if unknown.
    shown
        ``(probes, m)``: which known ones are like the unknown ones at their rank. Anchors are not,
        nor what was bought for another reason than its rank.
    drawn
        ``(probes, m)``: which of these chance has shown. The others were bought for other probes,
        and what is near to many is overrated.
    traits
        ``(probes, m)`` numbers around 0 that the differences' mean and spread may depend on.
    """
    unknown = np.isnan(true)
    shown = shown & ~unknown
    levels, spreads = _standards(np.where(shown, true - translated, np.nan))
    with np.errstate(invalid="ignore"):
        standard = (true - translated - levels) / spreads
    # Each probe's first ones are all bought, and none of them is imputed.
    further = shown & (np.arange(shown.shape[1]) >= RANK_EDGES[1])
    standard, centres, widths = _explained(standard, further, further & drawn, traits)
    expected, spreads = translated + levels + spreads * centres, spreads * widths
    filled = np.repeat(true[None], draws, axis=0)
    for columns in _stretches(translated.shape[1]):
        gaps = unknown[:, columns]
        seen = standard[:, columns][shown[:, columns]]
        donors = seen if len(seen) else standard[shown]
        if not gaps.any() or not len(donors):
            continue
        for draw in filled:
            # The approximate Bayesian bootstrap (Rubin and Schenker 1986): the donors' own
            # distribution is uncertain too.
            chosen = rng.choice(rng.choice(donors, len(donors)), gaps.shape)
            draw[:, columns][gaps] = (expected[:, columns] + spreads[:, columns] * chosen)[gaps]
    # No point is nearer than what is no candidate at all.
    filled[:, np.isneginf(translated)] = -np.inf
    return filled


def _explained(
    standard: Column,
    shown: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    traits: Sequence[NDArray[np.floating]],
) -> tuple[Column, Column, Column]:
    """Tell what traits explain of standard differences, and take it off where they are shown.

    Mean and logarithm of the spread are linear in the traits, and another constant for what chance
    has not drawn (Harvey 1976).

    Returns
    -------
    tuple
        The differences less what is explained; and for each candidate, as if drawn, the mean and
        the spread to put back. All ``(probes, m)``.
    """
    centres, widths = np.zeros_like(standard), np.ones_like(standard)
    others = shown & ~drawn
    columns = [np.ones(standard.shape), *traits, others * 1.0]
    if drawn.sum() < LEAST_DRAWN or others.sum() < LEAST_DRAWN:
        return standard, centres, widths
    design = np.stack([column[shown] for column in columns], axis=1)
    here = standard[shown]
    mean = np.linalg.lstsq(design, here, rcond=None)[0]
    left = here - design @ mean
    log_spread = np.linalg.lstsq(design, np.log(left**2 + SMALL_SQUARE) / 2, rcond=None)[0]
    left /= np.exp(design @ log_spread)
    freed = standard.copy()
    freed[shown] = (left - left.mean()) / max(float(left.std()), 1e-12)
    rest = np.arange(standard.shape[1]) >= RANK_EDGES[1]
    as_drawn = columns[:-1]
    spread = np.exp(sum(b * column for b, column in zip(log_spread, as_drawn, strict=False)))
    explained = sum(b * column for b, column in zip(mean, as_drawn, strict=False))
    centres[:, rest] = (explained + spread * left.mean())[:, rest]
    widths[:, rest] = (spread * left.std())[:, rest]
    return freed, centres, widths


def _stretches(depth: int) -> list[slice]:
    edges = [*(edge for edge in RANK_EDGES if edge < depth), depth]
    return [slice(start, end) for start, end in pairwise(edges)]


def _standards(differences: Column) -> tuple[Column, Column]:
    """Levels and spreads of ``(probes, m)`` differences, NaN if not shown.

    The level is that of the rank. Some probes are translated worse than others: their differences
    spread wider, by a factor that is shrunk towards 1 by what chance explains (empirical Bayes).
    """
    shown = np.isfinite(differences)
    shape = differences.shape
    levels, spreads = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    if not shown.any():
        return levels, spreads
    for columns in _stretches(shape[1]):
        seen = differences[:, columns][shown[:, columns]]
        if len(seen):
            levels[:, columns] = seen.mean()
            spreads[:, columns] = max(float(seen.std()), 1e-12)
    squares = np.where(shown, ((differences - levels) / spreads) ** 2, 0.0)
    count = np.maximum(shown.sum(axis=1), 1)
    own = squares.sum(axis=1) / count
    noise = float(squares[shown].var()) / count
    between = max(float(own.var() - noise.mean()), 0.0)
    factor = 1 + (own - 1) * between / (between + noise + 1e-30)
    return levels, spreads * np.sqrt(np.maximum(factor, LEAST_FACTOR))[:, None].astype(np.float32)
