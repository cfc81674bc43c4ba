r"""Predictions of unit vectors, put on the sphere around the direction of their mean.

A regression's predictions shrink towards the mean, and more so the farther a point is from what is
known. Where the mean of unit vectors is long, as that of most encoders in production is, what a
prediction is short of beside it decides its scores. A unit vector with the component m along the
mean's direction has :math:`\sqrt{1 - m^2}` left for all others (the tangent-normal decomposition;
Mardia and Jupp 2000, ch. 9): m and the direction of the rest tell all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import Vectors, normalize_rows

LEAST_SLOPE = 0.05
"""Below, held-out predictions of the component along the mean would tell nothing of it."""


def mean_direction(centre: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``(d,)``, of unit length unless the centre is 0."""
    length = float(np.linalg.norm(centre))
    direction: NDArray[np.float32] = (centre / (length or 1.0)).astype(np.float32)
    return direction


def regression_slope(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Return how far ``(n,)`` true values go where ``(n,)`` predictions go by 1, at most 1."""
    deviations = predicted - predicted.mean()
    squares = float(deviations @ deviations)
    if squares == 0:
        return 1.0
    slope = float(deviations @ (true - true.mean())) / squares
    return min(max(slope, LEAST_SLOPE), 1.0)


def put_on_sphere(
    deviations: Vectors, centre: NDArray[np.float32], direction: NDArray[np.float32]
) -> None:
    """Turn ``(n, d)`` predictions beside the centre into unit vectors, in place.

    Their components along the ``(d,)`` mean direction stay; the others are brought to length.
    """
    along = deviations @ direction
    squares = np.einsum("ij,ij->i", deviations, deviations)
    factor, rest = sphere_factors(along, squares, float(centre @ direction))
    deviations *= factor[:, None]
    deviations += rest[:, None] * direction
    normalize_rows(deviations)


def sphere_factors(along: Any, squares: Any, length: float) -> tuple[Any, Any]:
    """Return ``(n,)`` factors of deviations, and of the mean direction that is added to them.

    Parameters
    ----------
    along, squares
        ``(n,)`` components of the deviations along the mean direction, and their squared lengths;
        arrays of NumPy or torch.
    length
        Of the centre.
    """
    component = (length + along).clip(-1, 1)
    others = (squares - along * along).clip(min=float(np.finfo(np.float32).tiny))
    factor = ((1 - component * component) / others) ** 0.5
    return factor, component - factor * along
