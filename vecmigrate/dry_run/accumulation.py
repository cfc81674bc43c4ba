"""How many different documents queries meet: few queries are seen, many are to come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vecmigrate.report.schema import Estimate

REACH = 2
"""Extrapolation is trusted up to so many times the queries seen (Colwell et al. 2012): what is not
met yet is rather under- than overestimated."""

_NORMAL = 1.96


def different_documents(met: NDArray[np.intp], queries: int, most: int) -> Estimate:
    """Estimate how many different documents ``queries`` queries meet, with a 95 % interval.

    Fewer queries than those seen: the mean over all choices of so many (rarefaction). More: Chao's
    estimate of the documents not met yet (Chao 1987; Colwell et al. 2012). Beyond ``REACH`` times
    those seen that is the interval's lower end alone, and the value goes on as a straight line,
    which the true number does not exceed. The interval is that of the jackknife over queries.

    Parameters
    ----------
    met
        ``(n, m)``: by query, the documents that it meets, each once, as numbers from 0; -1 for
        none. At least two queries.
    most
        Documents there are.
    """
    n = len(met)
    documents = int(met.max(initial=-1)) + 1
    times = np.bincount(met[met >= 0], minlength=documents + 1)
    frequencies = np.bincount(times[times > 0], minlength=n + 1).astype(np.float64)
    # Without one query, each of its documents has been met once less.
    without = np.empty(n)
    for row, ids in enumerate(met):
        lost = np.bincount(times[ids[ids >= 0]], minlength=n + 1)
        without[row] = _expected(frequencies - lost + np.append(lost[1:], 0), n - 1, queries, most)
    value = _expected(frequencies, n, queries, most)
    reach = _NORMAL * float(np.sqrt((n - 1) * without.var()))
    at_least = value
    if queries > REACH * n:
        at_least = min(value, _extrapolated(frequencies, n, queries, most))
    return Estimate(
        value=value, low=max(0.0, at_least - reach), high=min(float(most), value + reach)
    )


def _expected(frequencies: NDArray[np.float64], seen: int, queries: int, most: int) -> float:
    """Of ``(n + 1,)`` numbers of documents by how often they were met in ``seen`` queries."""
    if queries <= seen:
        return _rarefied(frequencies, seen, queries)
    furthest = REACH * seen
    last = _extrapolated(frequencies, seen, min(queries, furthest), most)
    if queries > furthest:
        slope = last - _extrapolated(frequencies, seen, furthest - 1, most)
        last += (queries - furthest) * slope
    return min(last, float(most))


def _rarefied(frequencies: NDArray[np.float64], seen: int, queries: int) -> float:
    # A document met y times is missed by all of q of n queries: C(n - y, q) / C(n, q).
    steps = np.arange(len(frequencies) - 1)
    left = np.maximum(seen - queries - steps, 0) / np.maximum(seen - steps, 1)
    missed = np.cumprod(left)
    return float(frequencies[1:] @ (1 - missed))


def _extrapolated(frequencies: NDArray[np.float64], seen: int, queries: int, most: int) -> float:
    met, once, twice = float(frequencies[1:].sum()), frequencies[1], frequencies[2:3].sum()
    unmet = (seen - 1) / seen * once * (once - 1) / (2 * (twice + 1))
    unmet = min(float(unmet), most - met)
    if unmet <= 0 or once == 0:
        return met
    return met + unmet * float(1 - (1 - once / (seen * unmet + once)) ** (queries - seen))
