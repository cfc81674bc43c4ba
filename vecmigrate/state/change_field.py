"""A payload field that tells when a point changed: from which of its values on points are read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vecmigrate.errors import InputError
from vecmigrate.points.batch import PointId, VectorBatch
from vecmigrate.points.times import time_of

_UNITS = (1.0, 1e3, 1e6, 1e9)
_FIRST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
_LAST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
_SIGHTINGS = 50
"""So many sightings are kept of the length of an overlap."""


class LatestSeen(BaseModel):
    """What a run saw of a field, as the ledger keeps it for the next run.

    Attributes
    ----------
    value
        The latest value.
    is_time
        True if the values are ISO 8601 times, which count as seconds since 1970.
    began
        When that run began to read, in seconds since 1970; None if an older version noted it.
    seen
        If the values are no times: when runs had read the source to its end, and the latest value
        that each of them had seen, in the order of time.
    """

    model_config = ConfigDict(frozen=True)

    field: str
    value: float
    is_time: bool = False
    began: float | None = None
    seen: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, fact: Any, field: str) -> Self | None:
        """Return what a ledger's fact tells of a field; None if it is of another field."""
        return cls.model_validate(fact) if fact and fact.get("field") == field else None

    @property
    def a_second(self) -> float | None:
        """How many units of the field a second has; None if its values are no times."""
        return units_a_second(self.value, is_time=self.is_time)

    def since(self, overlap: float) -> float | None:
        """Return the value from which on points may have changed since that run.

        Until a change is visible, the overlap passes at most, so that a run may have missed one
        that is this much older than the latest value that the run saw. If the run began twice the
        overlap after that value, by clocks that may differ by the overlap, it missed none.

        Parameters
        ----------
        overlap
            In seconds. Of values that are no times, nothing tells how many a second has: then it
            is counted from the latest value that a run had seen this long before the last run.

        Returns
        -------
        float or None
            None if there is no such run yet.
        """
        a_second = self.a_second
        if a_second is not None:
            # What changed while that run read may have been read before. And a time in the future
            # must not hide what changes until then.
            began = np.inf if self.began is None else self.began * a_second
            if self.value + 2 * overlap * a_second <= began < np.inf:
                return self.value
            return min(self.value, began) - overlap * a_second
        if self.began is None:
            return None
        old = [value for at, value in self.seen if at <= self.began - overlap]
        return old[-1] if old else None

    def text(self, value: float) -> str:
        """Return a value as the field has it."""
        if self.is_time:
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
        return f"{value:.0f}" if value.is_integer() else f"{value}"


def units_a_second(value: float, *, is_time: bool = False) -> float | None:
    """Return how many units a second has, if a value looks like a time; None if not.

    Seconds, milliseconds, microseconds or nanoseconds since 1970 look so, from 1990 to 2100.
    """
    if is_time:
        return 1.0
    return next((unit for unit in _UNITS if _FIRST <= value / unit < _LAST), None)


@dataclass
class FieldReading:
    """What one reading of a source sees of a field.

    Attributes
    ----------
    latest
        The latest value so far; None if no point had one.
    is_time
        True if a value was an ISO 8601 time.
    """

    field: str
    latest: float | None = None
    is_time: bool = False

    def __post_init__(self) -> None:
        self._began = time.time()

    def values(self, batch: VectorBatch) -> NDArray[np.float64]:
        """Return ``(n,)`` values of the field, NaN if a point has none.

        Raises
        ------
        InputError
            If a value is neither a number nor an ISO 8601 time.
        """
        given = [payload.get(self.field) for payload in batch.each_payload()]
        found = np.array(
            [self._value(value, i) for value, i in zip(given, batch.ids.tolist(), strict=True)],
            dtype=np.float64,
        )
        known = found[~np.isnan(found)]
        if len(known):
            self.latest = max(float(known.max()), -np.inf if self.latest is None else self.latest)
        return found

    def saw(self, value: float | str) -> None:
        """Take note of a value that is there.

        Raises
        ------
        InputError
            If it is no time.
        """
        found = self._value(value, "of the latest time")
        self.latest = found if self.latest is None else max(found, self.latest)

    def _value(self, value: Any, point_id: PointId) -> float:
        try:
            found = time_of(value)
        except ValueError as error:
            raise InputError(
                f"the field {self.field!r} of point {point_id!r} holds no time ({value!r})",
                remedy="Name a field with numbers or ISO 8601 times, or use --changed-by hash.",
            ) from error
        self.is_time |= isinstance(value, str)
        return found

    def to_keep(
        self, before: LatestSeen | None, overlap: float, *, at_once: bool = False
    ) -> LatestSeen | None:
        """Return what the next run is to know; None if there is nothing.

        Parameters
        ----------
        before
            What this run knew; None if that does not hold any more.
        at_once
            True if all was seen as of one moment, so that nothing changed meanwhile.
        """
        if self.latest is None:
            return None
        # An index answers with what is late alone, among which there may be no time.
        is_time = self.is_time or (before is not None and before.is_time)
        kept = LatestSeen(field=self.field, value=self.latest, is_time=is_time, began=self._began)
        if kept.a_second is not None:
            return kept
        seen = list(before.seen) if before is not None else []
        now = time.time()
        # An older sighting tells the same, and less.
        if not seen or now - seen[-1][0] >= overlap / _SIGHTINGS:
            seen.append((now, self.latest))
        began = now if at_once else self._began
        old = sum(at <= began - overlap for at, _ in seen)
        return kept.model_copy(update={"seen": tuple(seen[max(0, old - 1) :]), "began": began})


def names_with_values(payload: Mapping[str, Any]) -> set[str]:
    """Return the fields of a payload that have a value."""
    return {name for name, value in payload.items() if value is not None}
