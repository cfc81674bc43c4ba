"""The simulation of a migration by many machines, against what can be said without one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from scale_model import Cluster, Rates, simulate  # noqa: E402

POINTS = 100_000_000
RATES = Rates(json.loads((BENCHMARKS / "results" / "scale_rates.json").read_text()), "kernel-ridge")
FAST = 1e9
"""Points a second that are never what is waited for."""


@pytest.mark.parametrize("batch", [256, 1024])
def test_workers_bound_it_where_the_target_is_fast(batch: int) -> None:
    found = simulate(POINTS, RATES, Cluster(nodes=4, cores=8, batch=batch, ingest=FAST))
    bound = POINTS * RATES.core_seconds(batch) / 32 / 3600
    assert bound == pytest.approx(found.hours, rel=0.03)
    assert found.bottleneck == "cores"
    assert found.lost == 0


def test_the_target_bounds_it_where_it_is_slow() -> None:
    found = simulate(POINTS, RATES, Cluster(nodes=16, cores=8, batch=1024, ingest=10_000))
    assert found.hours == pytest.approx(POINTS / 10_000 / 3600, rel=0.03)
    assert found.bottleneck == "Qdrant"


def test_the_network_bounds_it_where_it_is_slow() -> None:
    slow = Cluster(nodes=4, cores=8, batch=1024, ingest=FAST, gigabits=0.1)
    found = simulate(POINTS, RATES, slow)
    bound = POINTS * RATES.bytes_moved / (4 * 0.1e9 / 8) / 3600
    assert found.hours == pytest.approx(bound, rel=0.03)
    assert found.bottleneck == "network"


def test_failures_cost_the_work_of_their_node() -> None:
    calm = Cluster(nodes=4, cores=8, batch=1024, ingest=FAST)
    without, often = (
        simulate(POINTS, RATES, replace(calm, failures=failures)) for failures in (0, 500)
    )
    assert often.hours > without.hours
    # A node is away for 120 s, and on average has done half of a partition a core.
    partition = 1024 * 16 * RATES.core_seconds(1024)
    expected = 500 / 86_400 * partition / 2
    assert often.lost == pytest.approx(expected, rel=0.35)
