"""Translators' speed against the bare matrix products that they consist of, side by side.

``OMP_NUM_THREADS=2 python benchmarks/throughput_translators.py``: prints a Markdown table. Rates
are interleaved and medians taken, since the machine may be shared; only their ratios are claims.
"""

from __future__ import annotations

import os
import resource
import time
import warnings
from collections.abc import Callable

import numpy as np

from vecmigrate import KernelRidge, Procrustes, Ridge, Translator
from vecmigrate.translators.fit import QUERY_LANDMARKS
from vecmigrate.translators.token_features import DIMENSION

ROWS, D_X, D_Y, ROUNDS = 8192, 384, 768, 15
Product = Callable[[np.ndarray, np.ndarray], object]


def bare_linear(translator: Translator) -> Product:
    weights = np.ones((D_X, D_Y), np.float32)
    return lambda X, out: np.matmul(X, weights, out=out)


def bare_kernel(translator: Translator) -> Product:
    """The two products of a kernel map, in one piece, to and from memory that is there already."""
    assert isinstance(translator, KernelRidge)
    m = len(translator.landmarks_)
    first, second = np.ones((D_X, m), np.float32), np.ones((m, D_Y), np.float32)
    between = np.empty((ROWS, m), np.float32)

    def products(X: np.ndarray, out: np.ndarray) -> None:
        np.matmul(X, first, out=between)
        np.matmul(between, second, out=out)

    return products


def bare_kernel_with_texts(translator: Translator) -> Product:
    """The same, and the product with the linear part of vectors and texts' features."""
    kernel = bare_kernel(translator)
    weights = np.ones((D_X + DIMENSION, D_Y), np.float32)
    linear = np.empty((ROWS, D_Y), np.float32)

    def products(X: np.ndarray, out: np.ndarray) -> None:
        kernel(X[:, :D_X], out)
        np.matmul(X, weights, out=linear)

    return products


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, D_X)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    out = np.empty((ROWS, D_Y), np.float32)
    print("| translator | share of the bare products' rate | vectors/s | one query, ms |")
    print("|---|---|---|---|")
    features = rng.standard_normal((ROWS, DIMENSION)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for name, translator, n, bare in (
        ("procrustes", Procrustes(), 2000, bare_linear),
        ("ridge", Ridge(), 2000, bare_linear),
        ("kernel ridge, 4,000 landmarks", KernelRidge(), 4000, bare_kernel),
        (
            f"kernel ridge, {QUERY_LANDMARKS} landmarks (queries)",
            KernelRidge(landmarks=QUERY_LANDMARKS),
            4000,
            bare_kernel,
        ),
        (
            "kernel ridge reading texts, 4,000 landmarks",
            KernelRidge(text_dim=DIMENSION),
            4000,
            bare_kernel_with_texts,
        ),
    ):
        inputs = D_X + getattr(translator, "text_dim", 0)
        anchors = rng.standard_normal((n, inputs + D_Y)).astype(np.float32)
        targets = anchors[:, inputs:] / np.linalg.norm(anchors[:, inputs:], axis=1, keepdims=True)
        translator.fit(anchors[:, :inputs], targets)
        rows = X if inputs == D_X else np.concatenate([X, features], axis=1)
        products = bare(translator)
        pairs = [
            (
                seconds(lambda: translator.transform(rows, out=out)),  # noqa: B023
                seconds(lambda: products(rows, out)),  # noqa: B023
            )
            for _ in range(ROUNDS)
        ]
        ours, floor = np.median(pairs, axis=0)
        one = rows[:1]
        query = float(np.median([seconds(lambda: translator.transform(one)) for _ in range(200)]))  # noqa: B023
        print(f"| {name} | {floor / ours:.0%} | {ROWS / ours:,.0f} | {1000 * query:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nthreads {os.environ.get('OMP_NUM_THREADS', 'default')}, peak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
