"""Which anchors are worth re-embedding: strategies compared on the shared WordNet set.

``python benchmarks/anchor_strategies.py --out benchmarks/results`` (a quarter of an hour on 2
cores). Kernel ridge, exact search, 5 seeds. The losers live here only. ``queries`` sees half of the
queries, under the old encoder, as its log; like all others it is scored on the other half.
"""

from __future__ import annotations

import argparse
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
from translators import interval
from wordnet import DATA, Task

from vecmigrate import KernelRidge
from vecmigrate.anchors.strategy import Strategy, choose_anchors
from vecmigrate.evaluation.metrics import recall_against
from vecmigrate.points.batch import VectorBatch
from vecmigrate.translators.kernels import GaussianLandmarks

SIZES, SEEDS = (1000, 2000, 4000), range(5)


def leverage(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Draw by ridge leverage scores of the kernel, over 2,000 Nyström features."""
    rng = np.random.default_rng(seed)
    landmarks = GaussianLandmarks(1.0, points[rng.permutation(len(points))[:2000]])
    features = landmarks.evaluate(points).astype(np.float64)
    gram = features.T @ features
    gram[np.diag_indices_from(gram)] += 0.08 * len(points) / size
    scores = np.einsum("ij,ij->i", features @ np.linalg.inv(gram), features).clip(1e-12)
    return rng.choice(len(points), size, replace=False, p=scores / scores.sum())


def density(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Draw by the squared mean cosine with 1,000 random points' nearest sixteen."""
    rng = np.random.default_rng(seed)
    others = points[rng.permutation(len(points))[:1000]]
    nearest = np.partition(points @ others.T, -16, axis=1)[:, -16:].mean(axis=1).clip(0.01)
    return rng.choice(len(points), size, replace=False, p=nearest**2 / (nearest**2).sum())


def pivoted_cholesky(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Greedily take the point that the kernel of those taken explains least."""
    left = np.ones(len(points), np.float32)
    rows = np.empty((size, len(points)), np.float32)
    taken = [int(np.random.default_rng(seed).integers(len(points)))]
    for step in range(size):
        pivot = taken[-1]
        column = np.exp(2 * (points @ points[pivot] - 1), dtype=np.float32)
        column -= rows[:step, pivot] @ rows[:step]
        rows[step] = column / np.sqrt(max(left[pivot], 1e-6))
        left -= rows[step] ** 2
        left[taken] = -1
        taken.append(int(left.argmax()))
    return np.array(taken[:size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    task = Task.load("minilm", "mpnet")
    log = np.load(DATA / "minilm.queries.f16.npy").astype(np.float32)[::2]
    batch = VectorBatch(np.arange(len(task.old)), np.ascontiguousarray(task.old))

    def chosen(strategy: str, size: int, seed: int) -> np.ndarray:
        if strategy in set(Strategy):
            points = choose_anchors([batch], size, Strategy(strategy), seed, log)
            return points.ids
        losers = {"leverage": leverage, "density": density, "pivoted Cholesky": pivoted_cholesky}
        return losers[strategy](task.old, size, seed)

    scores: dict[tuple[str, int], list[float]] = {}
    spent: dict[tuple[str, int], float] = {}
    for seed in SEEDS:
        for size in SIZES:
            for strategy in ("uniform", "kmeans", "queries", "leverage", "density",
                             "pivoted Cholesky"):  # fmt: skip
                if strategy == "pivoted Cholesky" and (seed > 1 or size > 2000):
                    continue  # minutes for what loses by far
                begun = time.perf_counter()
                anchors = chosen(strategy, size, seed)
                spent[strategy, size] = time.perf_counter() - begun
                fitted = KernelRidge().fit(task.old[anchors], task.new[anchors])
                found = task.search(fitted.transform(task.old))[1::2]
                recall = float(recall_against(found, task.truth[1::2], 10).mean())
                scores.setdefault((strategy, size), []).append(recall)
        print(f"seed {seed}", flush=True)
        lines = [
            "| strategy | anchors | recall@10 | seeds | seconds to choose |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {strategy} | {size:,} | {interval(values)} | {len(values)} | "
            f"{spent[strategy, size]:.1f} |"
            for (strategy, size), values in sorted(scores.items())
        ]
        arguments.out.mkdir(exist_ok=True)
        (arguments.out / "anchor_strategies.md").write_text(
            "# benchmarks/anchor_strategies.py\n\nShared WordNet set, MiniLM to mpnet, kernel "
            "ridge, half of the queries, mean and 95 % interval over anchor seeds; "
            f"{date.today().isoformat()}.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
