"""Intervals from resampling probes and anchors, and from what was imputed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import AnchorSet
from vecmigrate.connector.source import fetch_existing
from vecmigrate.dry_run.purchases import Purchases
from vecmigrate.dry_run.session import Session
from vecmigrate.dry_run.truth import DEEPEST_CUTOFF, Imputed
from vecmigrate.evaluation.search import score_matrix
from vecmigrate.points.batch import id_array
from vecmigrate.points.ids import lookup_of
from vecmigrate.report.schema import Estimate, PairedDifference
from vecmigrate.runtime.threads import blas_threads, map_in_parallel, one_thread_a_product
from vecmigrate.translators import Translator
from vecmigrate.translators.procrustes import FewAnchorsWarning

REPLICATES = 2000
CONFIDENCE = 0.95
SIGN_FLIPS = 5000


class Resampler:
    """Bootstraps means over probes, with the anchors' and the imputation's share of uncertainty.

    Each replicate draws probes with replacement (Efron 1979), takes one of the refits, which left a
    group of anchors out each (:func:`_anchor_deviations`), and one of the draws, whose deviation
    from the mean of all adds the between-imputation variance (Rubin 1987).

    Parameters
    ----------
    probes
        How many there are.
    """

    def __init__(self, probes: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(probes, np.full(probes, 1 / probes), size=REPLICATES)
        self._weights = counts / probes
        self._seed = seed
        self._flips = rng.integers(0, 2, (SIGN_FLIPS, probes)) * 2.0 - 1.0

    def estimate(self, values: PerDraw, refits: PerDraw | None = None) -> Estimate:
        """Return the mean of ``(draws, probes)`` values and its interval.

        Parameters
        ----------
        refits
            ``(g, probes)``: the same values under each refit; None if anchors play no part.
        """
        each = values.mean(axis=0)
        means = self._weights @ each
        by_draw = values.mean(axis=1) - each.mean()
        # With m draws, their mean is itself uncertain by one m-th of their variance.
        means = means + self._pick(by_draw) * np.sqrt(1 + 1 / len(by_draw))
        if refits is not None and len(refits) > 1:
            means = means + self._pick(_anchor_deviations(refits))
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(means, [tail, 100 - tail])
        return Estimate(value=float(each.mean()), low=float(low), high=float(high))

    def compare(
        self, values: PerDraw, others: PerDraw, refits: PerDraw | None = None
    ) -> PairedDifference:
        """Return the mean of ``values - others``, and its p-value by paired randomization.

        Signs of differences are flipped at random (Fisher 1935; Smucker et al. 2007). ``refits``
        are the differences under each refit.
        """
        differences = values - others
        each = differences.mean(axis=0)
        observed = abs(each.mean())
        flipped = np.abs(self._flips @ each) / len(each)
        # The observed assignment is one of those possible, hence the two ones.
        as_far = int(np.count_nonzero(flipped >= observed - 1e-12))
        return PairedDifference(
            difference=self.estimate(differences, refits), p_value=(as_far + 1) / (SIGN_FLIPS + 1)
        )

    def _pick(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """One of the rows for each replicate."""
        rng = np.random.default_rng([self._seed, len(rows)])
        picked: NDArray[np.float64] = rows[rng.integers(0, len(rows), REPLICATES)]
        return picked


def _anchor_deviations(refits: PerDraw) -> NDArray[np.float64]:
    r"""Return ``(g,)`` deviations whose variance is what the anchors' choice contributes.

    Deviations of the refits' means, times :math:`\sqrt{g - 1}`, have the delete-a-group jackknife's
    variance (Kott 2001). A part of that is the chance of few probes, which the bootstrap has
    already: what each probe's own deviations explain is taken off.
    """
    g, probes = refits.shape
    deviations = refits - refits.mean(axis=0)
    means = deviations.mean(axis=1)
    total = (means**2).sum()
    chance = deviations.var(axis=1).sum() / probes
    left = np.sqrt(max(total - chance, 0) / total) if total > 0 else 0.0
    scaled: NDArray[np.float64] = np.sqrt(g - 1) * left * means
    return scaled


SETTLING = 4

DOUBT = 2.0
"""The number of unseen points is known within this factor."""

PerDraw = NDArray[np.float64]
"""``(draws, probes)``; one draw if nothing was imputed."""


@dataclass(frozen=True)
class Truth:
    """Where the true k nearest begin, draw by draw.

    Attributes
    ----------
    imputed
        The scores.
    thresholds
        By k, ``(draws, probes)``: the least true score of the k nearest, unseen ones reckoned with.
    unseen
        By k, ``(draws, probes)``: how many of the k nearest were not seen.
    """

    imputed: Imputed
    thresholds: Mapping[int, NDArray[np.float32]]
    unseen: Mapping[int, NDArray[np.intp]]

    @classmethod
    def draw(cls, imputed: Imputed, cutoffs: Sequence[int], rng: np.random.Generator) -> Truth:
        """Draw how many of the k nearest lie beyond the candidates, for each k."""
        best = imputed.best(DEEPEST_CUTOFF)
        thresholds, unseen = {}, {}
        for k in cutoffs:
            if k > best.shape[2]:
                continue
            rate = 0.0
            # The more are unseen, the fewer of those seen are among the k nearest.
            for _ in range(SETTLING):
                rate = imputed.beyond_rate(best[:, :, max(0, k - 1 - round(rate))])
            doubt = DOUBT ** rng.uniform(-1, 1, (len(best), 1))
            missing = np.minimum(rng.poisson(rate * doubt, best.shape[:2]), k)
            padded = np.concatenate([np.full_like(best[:, :, :1], np.inf), best], axis=2)
            at = np.take_along_axis(padded, (k - missing)[..., None], axis=2)
            thresholds[k], unseen[k] = at[..., 0], missing
        return cls(imputed, thresholds, unseen)

    def hits(self, k: int, order: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
        """Tell for the first ``k`` of each ranking which are among the true k nearest.

        Parameters
        ----------
        order
            ``(probes, >= k)`` candidates by rank; the translated collection's own if None.

        Returns
        -------
        ``(draws, probes, k)``
        """
        scores = self.imputed.scores
        if order is None:
            first = scores[:, :, :k]
        else:
            first = np.take_along_axis(scores, order[None, :, :k], axis=2)
        return first >= self.thresholds[k][..., None]

    def recall(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """Recall@k."""
        recall: PerDraw = self.hits(k, order).mean(axis=2)
        return recall

    def ndcg(self, k: int, order: NDArray[np.intp] | None = None) -> PerDraw:
        """nDCG@k, the true k nearest being the relevant ones."""
        discounts = 1 / np.log2(np.arange(2, k + 2))
        gained: PerDraw = self.hits(k, order) @ discounts / discounts.sum()
        return gained


GROUPS = 5
DEPTH = 400
"""Candidates ranked again: twice the greatest k that is asked for, and the deepest rescoring."""

FITTED_AT_ONCE = 2
"""A refit of the most anchors that are compared takes half a gigabyte."""

_FETCH = 2048


def refit_orders(
    session: Session, translator: Translator, anchors: AnchorSet, purchases: Purchases
) -> NDArray[np.intp]:
    """Rank each probe's first candidates by maps that a fifth of the anchors was kept from.

    Returns
    -------
    ``(GROUPS, probes, min(DEPTH, m))`` candidates by rank under each map.
    """
    candidates, queries = purchases.survey.candidates, purchases.probes.queries
    ids = candidates.ids[:, :DEPTH]
    wanted = id_array(sorted({i for row in ids.tolist() for i in row}, key=str))
    rows = lookup_of(wanted).rows(id_array(ids.ravel())).reshape(ids.shape)
    maps = _refits(session, translator, anchors)
    # A point that is gone since the survey keeps the score that it had there.
    scores = np.repeat(candidates.scores[None, :, :DEPTH], GROUPS, axis=0)
    for start in range(0, len(wanted), _FETCH):
        for part in fetch_existing(session.source, wanted[start : start + _FETCH]):
            old = translator.inputs(part.vectors, part.texts(session.description.text_field))
            places = lookup_of(part.ids).rows(wanted)[rows]
            for refit, found in zip(maps, scores, strict=True):
                new = refit.transform(old)
                for probe in np.flatnonzero((places >= 0).any(axis=1)):
                    here = places[probe] >= 0
                    found[probe, here] = score_matrix(
                        queries[probe][None],
                        new[places[probe, here]],
                        session.description.metric,
                    )
    scores[:, np.isneginf(candidates.scores[:, :DEPTH])] = -np.inf
    return np.argsort(-scores, axis=2, kind="stable")


def _refits(session: Session, translator: Translator, anchors: AnchorSet) -> list[Translator]:
    """Fit ``GROUPS`` maps like the translator, each without a fifth of the anchors."""
    X = translator.inputs(anchors.source_vectors, anchors.texts)
    group = np.random.default_rng(session.options.seed).permutation(len(anchors)) % GROUPS

    def fit_without(g: int) -> Translator:
        kept = group != g
        return copy.copy(translator).fit(X[kept], anchors.target_vectors[kept])

    maps, workers = [], min(blas_threads(), FITTED_AT_ONCE)
    unwarned = warnings.catch_warnings(action="ignore", category=FewAnchorsWarning)
    with (
        session.stage("refitting", GROUPS, unit="fit") as advance,
        unwarned,
        one_thread_a_product(),
    ):
        for fitted in map_in_parallel(fit_without, range(GROUPS), workers, name="refit"):
            maps.append(fitted)
            advance(1)
    return maps
