"""From which value of a field on points are read again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from vecmigrate.errors import InputError
from vecmigrate.points.batch import VectorBatch
from vecmigrate.state.change_field import FieldReading, LatestSeen, units_a_second

MOMENT = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()


def batch(*values: Any) -> VectorBatch:
    rows = np.ones((len(values), 2), np.float32)
    payloads = [{} if value is ... else {"at": value} for value in values]
    return VectorBatch(np.arange(len(values)), rows, payloads)


def read(*values: Any) -> FieldReading:
    reading = FieldReading("at")
    reading.values(batch(*values))
    return reading


@pytest.mark.parametrize("unit", [1, 1000, 10**6, 10**9])
def test_numbers_that_look_like_times_have_their_overlap_in_their_own_unit(unit: int) -> None:
    seen = LatestSeen(field="at", value=MOMENT * unit, began=MOMENT + 5)
    assert seen.since(60) == pytest.approx((MOMENT - 60) * unit)


@pytest.mark.parametrize("value", [0, 17, 250_000, 5e9, 2e14, -5.0])
def test_other_numbers_are_no_times(value: float) -> None:
    assert units_a_second(value) is None


def test_what_changed_while_a_run_read_is_read_again() -> None:
    """So is all from the run's begin on if a point is dated in the future."""
    seen = LatestSeen(field="at", value=MOMENT + 7000, began=MOMENT)
    assert seen.since(60) == MOMENT - 60
    far = LatestSeen(field="at", value=253_402_300_799.0, is_time=True, began=MOMENT)
    assert far.since(60) == MOMENT - 60


def test_what_is_much_older_than_a_run_has_been_seen_by_it() -> None:
    """So that a still collection that was loaded at once is not read again by each run."""
    still = LatestSeen(field="at", value=MOMENT, began=MOMENT + 120)
    assert still.since(60) == MOMENT
    assert still.since(61) == MOMENT - 61
    millis = LatestSeen(field="at", value=MOMENT * 1000, began=MOMENT + 120)
    assert millis.since(60) == MOMENT * 1000


def test_of_versions_the_overlap_is_counted_by_runs() -> None:
    first = read(10, 20).to_keep(None, overlap=600)
    assert first is not None
    assert first.since(600) is None
    # Nor is it told what changed while that run read, which nobody had read before.
    assert first.since(0) is None
    seen = ((MOMENT - 900, 50), (MOMENT - 700, 60), (MOMENT - 100, 70), (MOMENT + 3, 90))
    later = LatestSeen(field="at", value=90, began=MOMENT, seen=seen)
    assert later.since(600) == 60
    assert later.since(800) == 50
    assert later.since(0) == 70
    assert later.since(1000) is None


def test_no_more_sightings_are_kept_than_an_overlap_needs() -> None:
    kept = None
    for version in range(5000):
        kept = read(version).to_keep(kept, overlap=600)
    assert kept is not None
    assert len(kept.seen) <= 60
    seen = tuple((time.time() - 10_000 + i, float(i)) for i in range(500))
    old = LatestSeen(field="at", value=5, began=MOMENT, seen=seen)
    kept = read(600).to_keep(old, overlap=600)
    assert kept is not None
    assert [value for _, value in kept.seen] == [499, 600]


def test_iso_times_are_seconds_and_missing_values_are_none() -> None:
    reading = FieldReading("at")
    found = reading.values(batch("2026-05-01T12:00:00", ..., None, "2026-05-01T14:00:00+02:00"))
    assert np.isnan(found).tolist() == [False, True, True, False]
    assert (reading.latest, reading.is_time) == (MOMENT, True)
    with pytest.raises(InputError):
        reading.values(batch("yesterday"))


def test_an_older_versions_note_is_read() -> None:
    old = LatestSeen.of({"field": "at", "value": MOMENT}, "at")
    assert old is not None
    assert old.since(60) == MOMENT - 60
    version = LatestSeen.of({"field": "at", "value": 7.0}, "at")
    assert version is not None
    assert version.since(60) is None
    assert LatestSeen.of({"field": "at", "value": 7.0}, "other") is None
    assert LatestSeen.of(None, "at") is None
