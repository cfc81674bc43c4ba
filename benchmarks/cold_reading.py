"""Reading FAISS files that are not in memory: as FAISS maps them, and with batches announced.

    python benchmarks/cold_reading.py --work DIR

Each is read in a process of its own, after the system has dropped the file from its cache. Writes
``results/cold_reading.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from measuring import clustered, forget, provenance
from vecmigrate_faiss.index.rows import Rows

from vecmigrate import open_source

KINDS = ("Flat", "IVF256,Flat", "HNSW16,Flat", "IVF256,SQ8")
COUNT, DIMENSION, BATCH = 400_000, 384, 4096


def read(path: str, announced: bool) -> float:
    """Seconds that all batches take."""
    with open_source(f"faiss:{path}") as source:
        if not announced:
            for kind in everything(Rows):
                kind.soon = lambda rows, start, stop: None
        begun = time.perf_counter()
        total = sum(float(batch.vectors.sum()) for batch in source.batches(BATCH))
        assert np.isfinite(total)
        return time.perf_counter() - begun


def everything(kind: type) -> list[type]:
    return [kind, *(each for below in kind.__subclasses__() for each in everything(below))]


def rate(path: Path, *flags: str) -> float:
    """Megabytes a second, in a process of its own."""
    forget(path)
    command = [sys.executable, __file__, "--read", str(path), *flags]
    seconds = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return path.stat().st_size / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="Folder for 700 MB, on the disk to measure.")
    parser.add_argument("--read", help="A file: read it, and print the seconds.")
    parser.add_argument("--as-mapped", action="store_true", help="Announce nothing.")
    asked = parser.parse_args()
    if asked.read:
        print(read(asked.read, announced=not asked.as_mapped))
        return
    lines = [
        f"# Reading {COUNT:,} vectors of {DIMENSION} dimensions from a disk",
        "",
        f"`python benchmarks/cold_reading.py`, {provenance()}. Megabytes a second.",
        "",
        "| index | as FAISS maps it | announced | times as fast |",
        "|---|---|---|---|",
    ]
    rows = clustered(COUNT, DIMENSION, np.random.default_rng(1))
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        path = Path(work) / "old.faiss"
        for kind in KINDS:
            index = faiss.index_factory(DIMENSION, kind, faiss.METRIC_INNER_PRODUCT)
            index.train(rows[:20_000])
            index.add(rows)
            faiss.write_index(index, str(path))
            mapped, announced = rate(path, "--as-mapped"), rate(path)
            share = announced / mapped
            lines.append(f"| {kind} | {mapped:,.0f} | {announced:,.0f} | {share:.0f} |")
    page = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "cold_reading.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
