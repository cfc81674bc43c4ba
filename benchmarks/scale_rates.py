"""What one core takes for each step of moving a vector; for ``scale_simulation.py --measure``."""

from __future__ import annotations

import os

# As Ray has it: one thread a task. Before NumPy is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measuring import clustered, provenance
from null_qdrant import PAYLOAD, page
from vecmigrate_qdrant.access.base import Access
from vecmigrate_qdrant.connect import open_access
from vecmigrate_qdrant.location import parse_location
from vecmigrate_qdrant.points import UNNAMED, Shape, Wanted

from vecmigrate import KernelRidge, Ridge, Translator, open_sink
from vecmigrate.connector.registry import resume_sink
from vecmigrate.connector.uri import parse_uri
from vecmigrate.errors import WriteError
from vecmigrate.migration.engines.partitions import read_part, write_part
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric, Provenance, TargetSpec
from vecmigrate.points.screening import Skipped

D_OLD, D_NEW, ANCHORS = 768, 1024, 4000
BATCHES = (64, 256, 1024, 4096)
WHOLE, IDS = Wanted(), Wanted(vectors=False, payloads=False)
ROUNDS = 5
ROWS = 4096


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """The median of some runs, after one that is not counted.

    By default of this process's time on a core, since the machine may be shared.
    """
    took = []
    call()
    for _ in range(ROUNDS):
        begun = clock()
        call()
        took.append(clock() - begun)
    return median(took)


@contextmanager
def null_server(dimension: int) -> Iterator[Access]:
    """A client of a server that does nothing."""
    script = Path(__file__).with_name("null_qdrant.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(dimension)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        uri = parse_uri(f"qdrant://127.0.0.1:1/c?grpc=true&grpc_port={port}")
        access = open_access(parse_location(uri), refusal=WriteError)
        try:
            yield access
        finally:
            access.close()
            process.stdin.close()


def translators() -> dict[str, Translator]:
    rng = np.random.default_rng(0)
    old = clustered(ANCHORS, D_OLD, rng)
    new = np.tanh(old @ rng.standard_normal((D_OLD, D_NEW), dtype=np.float32))
    return {"ridge": Ridge().fit(old, new), "kernel-ridge": KernelRidge().fit(old, new)}


def batch_of(count: int) -> VectorBatch:
    vectors = clustered(count, D_NEW, np.random.default_rng(1))
    return VectorBatch(np.arange(count), vectors, [PAYLOAD] * count, "0")


def measured_clients() -> dict[str, dict[str, float]]:
    """Seconds a request to scroll, for ids alone, and to upsert, by how many points it has."""
    scrolls, ids_alone, upserts = {}, {}, {}
    with null_server(D_OLD) as access:
        points = access.points("c", Shape(UNNAMED, D_OLD))
        new_points = access.points("c", Shape(UNNAMED, D_NEW))
        for count in BATCHES:
            batch = batch_of(count)
            ids = batch.ids.tolist()
            assert points.scroll(count, None, WHOLE).batch.vectors.shape == (count, D_OLD)
            ids_alone[str(count)] = seconds(lambda n=count: points.scroll(n, None, IDS))
            scrolls[str(count)] = seconds(lambda n=count: points.scroll(n, None, WHOLE))
            upserts[str(count)] = seconds(lambda ids=ids, b=batch: new_points.upsert(ids, b))
    return {"scroll_request": scrolls, "ids_request": ids_alone, "upsert_request": upserts}


def measured_parts() -> dict[str, float]:
    """Seconds a vector to write a part file and to read it, the disk's included."""
    batch, count = batch_of(ROWS), 16
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        clock = time.perf_counter
        writing = seconds(
            lambda: write_part(path, (batch for _ in range(count)), D_NEW, Skipped()), clock
        )
        reading = seconds(
            lambda: [float(part.batch.vectors.sum()) for part in read_part(path)], clock
        )
        size = path.stat().st_size
    rows = ROWS * count
    return {"write": writing / rows, "read": reading / rows, "bytes": size / rows}


def measured_ray() -> dict[str, float]:
    """Seconds to start a cluster of one worker, and of a task that does nothing."""
    import ray

    begun = time.perf_counter()
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=40)
    started = time.perf_counter() - begun
    nothing = ray.remote(num_cpus=1)(lambda: None)
    waiting = time.perf_counter
    task = seconds(lambda: ray.get([nothing.remote() for _ in range(100)]), waiting) / 100
    ray.shutdown()
    return {"start": started, "task": task}


def measured_server(uri: str, processes: int, points: int) -> dict[str, float]:
    """Points a second that a real server takes from several processes; it is left as it was."""
    made = Provenance(vecmigrate_version="0", source="scale", created_at=str(time.time()))
    spec = TargetSpec(dimension=D_NEW, metric=Metric.COSINE, provenance=made)
    with open_sink(uri, spec) as sink, _processes(processes) as pool:
        token = sink.checkpoint()
        assert token is not None
        arguments = [(uri, spec, token, number, points // processes) for number in range(processes)]
        begun = time.perf_counter()
        written = sum(pool.map(_write, arguments))
        took = time.perf_counter() - begun
    return {"processes": processes, "points": written, "points_per_second": written / took}


def _processes(count: int) -> ProcessPoolExecutor:
    # A client's connections do not outlive a fork.
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def _write(arguments: tuple[str, TargetSpec, str, int, int]) -> int:
    uri, spec, token, number, points = arguments
    batch, done = batch_of(ROWS), 0
    sink = resume_sink(uri, spec, token)
    while done < points:
        part = batch.take(np.arange(min(ROWS, points - done)))
        ids = part.ids + number * points + done
        sink.write(VectorBatch(ids, part.vectors, part.payloads))
        done += len(part)
    sink.suspend()
    return done


def measure(server: str | None, processes: int, points: int) -> dict[str, Any]:
    """Measure all; a dictionary for JSON."""
    vectors = clustered(ROWS, D_OLD, np.random.default_rng(3))
    packages = ", ".join(f"{name} {version(name)}" for name in ("qdrant-client", "pyarrow", "ray"))
    return {
        "made": f"{provenance()}, {packages}; one thread; seconds on a core",
        "dimensions": [D_OLD, D_NEW],
        "translate": {
            name: seconds(lambda t=t: t.transform(vectors)) / ROWS
            for name, t in translators().items()
        },
        **measured_clients(),
        "read_bytes": len(page(1000, D_OLD)) / 1000,
        "write_bytes": len(page(1000, D_NEW)) / 1000,
        "part": measured_parts(),
        "ray": measured_ray(),
        "server": measured_server(server, processes, points) if server else None,
    }
