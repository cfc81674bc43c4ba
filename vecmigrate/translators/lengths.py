r"""How long a translated vector is to be beside the mean of all.

A regression's predictions shrink towards the mean, and more so the farther a point is from what is
known: an anchor's hardly, others' much. Where vectors are scaled to unit length and their mean is
long, as that of most encoders in production is, the difference of lengths beside the mean decides
their scores. A vector :math:`y = m + z` that is known as a posterior with mean :math:`m + f` and
variance v has the expected squared length :math:`|z|^2 = |f|^2 + v`, whatever is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors, row_norms


@dataclass(frozen=True, slots=True)
class RowLengths:
    r"""Gives predictions the length beside the mean that their vectors are expected to have.

    .. math:: |z|^2 = \rho\,|f|^2 + \sigma^2 \left(1 - \frac{k^2}{1 + \lambda}\right)

    with k the value of the kernel at the nearest landmark. The bracket is a Gaussian process's
    variance given that landmark alone, which costs nothing where kernel values are at hand; given
    all of them it would take a product with their inverse for each row, and differs little but for
    its scale.

    Attributes
    ----------
    ratio
        ρ: what the squared length lost when the spectrum was matched, which stretched it.
    variance
        σ²: what the squared lengths of leave-one-out predictions lack on average.
    alpha
        λ.
    """

    ratio: float
    variance: float
    alpha: float

    @classmethod
    def measured(
        cls,
        plain: NDArray[np.floating],
        matched: NDArray[np.floating],
        true: float,
        nearest: NDArray[np.floating],
        alpha: float,
    ) -> Self:
        """Choose ratio and variance that make held-out rows as long as true ones on average.

        Parameters
        ----------
        plain, matched
            ``(n, d)`` held-out predictions beside the mean, before and after the spectrum was
            matched.
        true
            The mean squared length of the true vectors beside the mean.
        nearest
            ``(n,)`` kernel values at the nearest landmark that is not the row itself.
        """
        before, after = (float(np.mean(row_norms(each) ** 2)) for each in (plain, matched))
        unknown = float(np.mean(1 - nearest.astype(np.float64) ** 2 / (1 + alpha)))
        return cls(
            ratio=before / after if after > 0 else 1.0,
            variance=max(true - before, 0.0) / unknown if unknown > 0 else 0.0,
            alpha=alpha,
        )

    def factors(self, squares: Any, nearest: Any) -> Any:
        """Return ``(n,)`` squared factors for predictions, as arrays of NumPy or torch.

        Parameters
        ----------
        squares
            ``(n,)`` squared lengths of the predictions beside the mean.
        nearest
            ``(n,)`` kernel values at the nearest landmark.
        """
        unknown = self.variance * (1 - nearest * nearest / (1 + self.alpha))
        return self.ratio + unknown / squares.clip(min=float(np.finfo(np.float32).tiny))

    def restore(self, deviations: Vectors, nearest: NDArray[np.float32]) -> None:
        """Scale ``(n, d)`` predictions beside the mean, in place."""
        deviations *= np.sqrt(self.factors(row_norms(deviations) ** 2, nearest))[:, None]
