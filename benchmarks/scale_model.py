"""An event simulation of a migration by many workers, some of which die."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecmigrate.migration.engines.part_stream import AHEAD
from vecmigrate.migration.engines.ray import PARTITION_BATCHES

SPREAD = 0.1
"""Partitions take up to so much more or less than the mean."""


@dataclass(frozen=True)
class Rates:
    """What was measured of one core, in seconds and bytes a vector; see ``scale_rates.py``."""

    measured: dict[str, Any]
    translator: str

    def request(self, kind: str, batch: int) -> float:
        """Seconds a point of a request of ``batch`` points, between the sizes measured."""
        took = {int(size): value for size, value in self.measured[kind].items()}
        sizes = sorted(took)
        return float(np.interp(batch, sizes, [took[size] / size for size in sizes]))

    def core_seconds(self, batch: int) -> float:
        """Seconds of a core to read, translate and write one vector."""
        return (
            self.request("scroll_request", batch)
            + self.measured["translate"][self.translator]
            + self.request("upsert_request", batch)
        )

    @property
    def bytes_moved(self) -> float:
        """Read from the source and sent to the target, without what the target's replicas take."""
        return float(self.measured["read_bytes"] + self.measured["write_bytes"])


@dataclass(frozen=True)
class Cluster:
    """What the vectors are moved with.

    Attributes
    ----------
    ingest
        Points a second that all of Qdrant takes.
    gigabits
        A second, of a node's network.
    failures
        Of a node, a day.
    recovery
        Seconds until a node that died is back.
    """

    nodes: int
    cores: int
    batch: int
    ingest: float
    gigabits: float = 10.0
    failures: float = 0.0
    recovery: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes
    ----------
    lost
        Work thrown away with workers that died, relative to all that was needed.
    cpu, ingest, network
        Share of the time that the workers' cores, Qdrant and the nodes' network are in use.
    """

    hours: float
    lost: float
    cpu: float
    ingest: float
    network: float

    @property
    def bottleneck(self) -> str:
        """What is in use the most."""
        used = {"Qdrant": self.ingest, "cores": self.cpu, "network": self.network}
        return max(used, key=lambda name: used[name])


def simulate(points: int, rates: Rates, cluster: Cluster, seed: int = 0) -> Outcome:
    """Move ``points`` vectors, a partition at a time a core.

    A worker takes the next partition; it is done when its core is and when Qdrant, which serves
    what it is sent in that order, has taken it. A node that dies takes its partitions with it, and
    they are the next to be given out. No partition is begun that is further than ``AHEAD`` for each
    worker from the first that is not done, as in :class:`PartStream`.
    """
    rng = np.random.default_rng(seed)
    size = cluster.batch * PARTITION_BATCHES
    partitions = -(-points // size)
    workers = cluster.nodes * cluster.cores
    per_core = cluster.gigabits * 1e9 / 8 / cluster.cores
    core_time = max(rates.core_seconds(cluster.batch), rates.bytes_moved / per_core) * size
    server_time = size / cluster.ingest

    working: dict[int, tuple[int, float]] = {}  # partition and begin, by worker
    tries = [0] * workers  # what an event of an attempt that died is told by
    events: list[tuple[float, int, int, int]] = []  # when, worker or -1 - node, try, kind
    again: deque[int] = deque()
    idle = set(range(workers))
    done = np.zeros(partitions, dtype=bool)
    fresh = head = 0
    server_free = busy = lost = now = 0.0

    def begin(worker: int) -> bool:
        nonlocal fresh, server_free
        if again:
            partition = again.popleft()
        elif fresh < min(partitions, head + AHEAD * workers):
            partition, fresh = fresh, fresh + 1
        else:
            return False
        server_free = max(server_free, now) + server_time
        ends = now + core_time * (1 + SPREAD * rng.uniform(-1, 1))
        working[worker] = partition, now
        heapq.heappush(events, (max(ends, server_free), worker, tries[worker], 0))
        return True

    def fail_later(node: int) -> None:
        if cluster.failures:
            after = rng.exponential(86_400 / cluster.failures)
            heapq.heappush(events, (now + after, -1 - node, 0, 1))

    for node in range(cluster.nodes):
        fail_later(node)
    while head < partitions:
        idle -= {worker for worker in sorted(idle) if begin(worker)}
        now, who, attempt, kind = heapq.heappop(events)
        if kind == 1:
            node = -1 - who
            for worker in range(node * cluster.cores, (node + 1) * cluster.cores):
                tries[worker] += 1
                if worker in working:
                    partition, since = working.pop(worker)
                    again.append(partition)
                    lost += min(now - since, core_time)
                idle.discard(worker)
                heapq.heappush(events, (now + cluster.recovery, worker, tries[worker], 2))
            fail_later(node)
        elif attempt == tries[who]:
            if kind == 0:
                done[working.pop(who)[0]] = True
                busy += core_time
                while head < partitions and done[head]:
                    head += 1
            idle.add(who)
    network = points * rates.bytes_moved / (cluster.nodes * cluster.gigabits * 1e9 / 8)
    return Outcome(
        hours=now / 3600,
        lost=lost / busy,
        cpu=points * rates.core_seconds(cluster.batch) / (workers * now),
        ingest=points / (cluster.ingest * now),
        network=network / now,
    )
