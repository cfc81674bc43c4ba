"""Passes that bring what others change at a source meanwhile, until one finds little."""

from __future__ import annotations

from vecmigrate.errors import UnsettledError

FEW = 100
"""So many changes are few, however small the collection."""
SETTLE = 0.001
"""The share of the points up to which changes are few, by default."""


class Settling:
    """Tells of each pass whether another one is to follow.

    Parameters
    ----------
    source
        For the error.
    share
        Of the points, up to which changes are few, as are 100 points.
    kept
        What becomes of what was done, for the error.
    """

    def __init__(self, source: str, share: float, kept: str) -> None:
        self._source, self._share, self._kept = source, share, kept
        self._last: tuple[int, float] | None = None

    def is_settled(self, changes: int, points: int, seconds: float) -> bool:
        """Tell whether a pass found few changes.

        Parameters
        ----------
        changes, points
            That the pass found, and that the source has.
        seconds
            That it took.

        Raises
        ------
        UnsettledError
            If there were no fewer than in the pass before.
        """
        if changes <= max(FEW, self._share * points):
            return True
        if self._last is not None and changes >= self._last[0]:
            raise UnsettledError(
                f"{self._source} changes as fast as its changes can be brought: "
                f"{changes / self._last[1]:,.0f} points a second change, and a pass reads "
                f"{points / seconds:,.0f}",
                remedy=f"{self._kept}: run the same command when fewer writers are at work, or "
                "accept more of a difference by --settle and let sync follow.",
            )
        self._last = changes, seconds
        return False
