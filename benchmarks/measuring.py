"""What the benchmarks of memory and time share: a corpus on disk, and a child that is watched."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

POLL_SECONDS = 0.02
CENTRES = 1000
CHUNK = 50_000
TRAINING_ROWS_PER_LIST = 40
_FIELD = re.compile(r"^(RssAnon|RssFile|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Watched:
    """A command that ran, and what it took.

    Attributes
    ----------
    anonymous, mapped
        The most pages that were its own, and that belonged to mapped files, in bytes; looked up
        every 20 ms in ``/proc/PID/status`` (``RssAnon``, ``RssFile``). The system takes mapped
        pages back as it needs them.
    resident
        The kernel's own mark of the most of both at once (``VmHWM``).
    """

    seconds: float
    anonymous: int
    mapped: int
    resident: int
    out: str


def watch(*command: str) -> Watched:
    """Run ``vecmigrate`` with these arguments and look at its memory until it ends."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "vecmigrate", *command], stdout=subprocess.PIPE, text=True
    ) as child:
        peaks = {"RssAnon": 0, "RssFile": 0, "VmHWM": 0}
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            for name, kib in _FIELD.findall(status.read_text()):
                peaks[name] = max(peaks[name], 1024 * int(kib))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - begun
        assert child.stdout is not None
        out = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"vecmigrate {command[0]} ended with {child.returncode}: {out}")
    return Watched(seconds, peaks["RssAnon"], peaks["RssFile"], peaks["VmHWM"], out)


def clustered(count: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``(count, dimension)`` unit vectors around centres that a fixed seed gives."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dimension), dtype=np.float32)
    vectors = centres[rng.integers(CENTRES, size=count)]
    vectors += rng.standard_normal((count, dimension), dtype=np.float32)
    faiss.normalize_L2(vectors)
    return vectors


def make_collection(folder: Path, name: str, kind: str, count: int, dimension: int) -> str:
    """Write ``NAME.faiss`` of a kind in FAISS's factory language, texts beside it; its URI."""
    rng = np.random.default_rng(1)
    index = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        rows = min(count, TRAINING_ROWS_PER_LIST * index.nlist)
        index.train(clustered(rows, dimension, rng))
    for start in range(0, count, CHUNK):
        index.add(clustered(min(CHUNK, count - start), dimension, rng))
    faiss.write_index(index, str(folder / f"{name}.faiss"))
    with (folder / f"{name}.jsonl").open("w") as file:
        for number in range(count):
            line = {"id": number, "text": f"the text of point {number}", "group": number % 7}
            file.write(json.dumps(line) + "\n")
    return f"faiss:{folder / name}.faiss"


def make_translator(folder: Path, method: str, dimensions: tuple[int, int], anchors: int) -> str:
    """Fit ``METHOD.safetensors`` on anchors that a bent map relates."""
    rng = np.random.default_rng(2)
    old = clustered(anchors, dimensions[0], rng)
    new = np.tanh(old @ rng.standard_normal(dimensions, dtype=np.float32))
    new += 0.1 * rng.standard_normal(new.shape, dtype=np.float32)
    faiss.normalize_L2(new)
    np.save(folder / "anchors-old.npy", old)
    np.save(folder / "anchors-new.npy", new)
    path = folder / f"{method}.safetensors"
    watch(
        "fit", "--method", method, "--source-vectors", str(folder / "anchors-old.npy"),
        "--target-vectors", str(folder / "anchors-new.npy"), "--out", str(path), "--quiet",
    )  # fmt: skip
    return str(path)


def forget(path: Path) -> None:
    """Have the system drop a file from its cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def mebibytes(count: int) -> str:
    """As a table shows it."""
    return f"{count / (1 << 20):,.0f} MiB"


def provenance(*more: str) -> str:
    """Machine, versions, of more packages too, and date, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = os.getloadavg()[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "numpy", *more))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}, load "
        f"{load:.0f}), {memory:.0f} GiB of memory, Python {platform.python_version()}, {packages}"
    )
