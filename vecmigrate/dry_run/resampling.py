"""Intervals from resampling probes and anchors, and from what was imputed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.dry_run.ranking import PerDraw
from vecmigrate.report.schema import Estimate, PairedDifference

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
            ``(g, probes)``: the same values under each refit; None where anchors play no part.
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
            difference=self.estimate(differences, refits),
            p_value=(as_far + 1) / (SIGN_FLIPS + 1),
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
