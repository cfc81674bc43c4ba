"""What ``fit --method auto`` takes beside one kernel ridge fit, and its share of a dry run.

    python benchmarks/fit_speed.py        # some minutes on 2 cores

On the shared Debian set, MiniLM to mpnet, 4,000 uniform anchors by vectors alone, one after the
other in one process, over and over; then a dry run of all 8,000 documents with 800 anchors, whose
processor time in the stage that fits is told. Prints one line each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
from measuring import provenance

from vecmigrate import KernelRidge
from vecmigrate.dry_run import DryRunOptions, dry_run
from vecmigrate.translators.fit import choose_translator

DATA = Path(__file__).parents[2] / "shared" / "data" / "debian"


def vectors(name: str) -> np.ndarray:
    loaded = np.load(DATA / f"{name}.docs.f16.npy").astype(np.float32)
    faiss.normalize_L2(loaded)
    return loaded


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and seconds of the processors."""
    begun, begun_there = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - begun_there


def compare_fits(anchors: int, rounds: int) -> None:
    """Print what a kernel ridge fit and ``auto`` take, and the medians of their ratios."""
    X, Y = vectors("minilm"), vectors("mpnet")
    rows = np.random.default_rng(0).permutation(len(X))[:anchors]
    X, Y = X[rows], Y[rows]
    KernelRidge().fit(X[:100], Y[:100])  # loads what is loaded once
    alone, auto = [], []
    for _ in range(rounds):
        alone.append(seconds(lambda: KernelRidge().fit(X, Y)))
        auto.append(seconds(lambda: choose_translator(X, Y)))
    print(f"{anchors:,} anchors, {X.shape[1]} to {Y.shape[1]} dimensions")
    for what, one, all_of_them in zip(
        ("time", "processor time"), np.transpose(alone), np.transpose(auto), strict=True
    ):
        print(
            f"{what}: kernel ridge alone {np.median(one):.1f} s, auto "
            f"{np.median(all_of_them):.1f} s, {np.median(all_of_them / one):.1f} times",
            flush=True,
        )


def share_of_dry_run(folder: Path, anchors: int) -> None:
    """Print the processor time of a dry run and how much of it goes into the fit."""
    index = faiss.IndexFlatIP(384)
    index.add(vectors("minilm"))
    faiss.write_index(index, str(folder / "old.faiss"))
    shutil.copyfile(DATA / "docs.jsonl", folder / "old.jsonl")
    spent: dict[str, float] = {}

    @contextmanager
    def stage(name: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
        begun = time.process_time()
        yield lambda done: None
        spent[name] = spent.get(name, 0.0) + time.process_time() - begun

    begun = time.process_time()
    dry_run(
        f"faiss:{folder / 'old.faiss'}",
        f"vectors:{DATA / 'mpnet.docs.f16.npy'}?name=all-mpnet-base-v2",
        folder / "out",
        DryRunOptions(anchors=anchors, budget="3000 texts"),
        stage=stage,
    )
    total = time.process_time() - begun
    fit = spent["comparing"]
    rounded = json.dumps({name: round(each, 2) for name, each in spent.items()})
    print(
        f"dry run, {anchors:,} anchors: {total:.1f} s of processor time, {fit:.1f} s "
        f"({fit / total:.0%}) in the fit; by stage {rounded}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anchors", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry-run-anchors", type=int, default=800)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(provenance("scipy"))
    compare_fits(arguments.anchors, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        share_of_dry_run(Path(folder), arguments.dry_run_anchors)


if __name__ == "__main__":
    main()
