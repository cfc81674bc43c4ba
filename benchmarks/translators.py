"""Recall by anchors of each translator, beside isotrieve, on the shared WordNet set.

``python benchmarks/translators.py --out benchmarks/results`` (two hours on 2 cores; isotrieve 0.4.0
is measured where ``pip install --no-deps isotrieve==0.4.0`` was run). Writes ``translators.json``
and ``translators.md``. With ``--methods texts isotrieve``, only methods with one of these words in
their name are run, and take the place of their own rows; so with ``--tasks``, ``--tables`` and
``--kept``. With ``--first-seed 4``, seeds from 4 on are added to the rows of seeds before.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from models import token_table
from scipy import stats
from wordnet import TEXTS_READ, Task

from vecmigrate import KernelRidge, Procrustes, Ridge, Translator
from vecmigrate.translators.kernels import spread_rows
from vecmigrate.translators.mixing import mixing_scale
from vecmigrate.translators.token_features import TokenFeatures

SEEDS = range(5)
SIZES = (1000, 2000, 4000)
KEPT = (1500, 3000, 6000, 12_000, 24_000)
REEMBEDDED_BESIDE = 2000
"""Anchors of the map beside whose translations more and more documents are re-embedded."""
TRANSLATORS: dict[str, Callable[[], Translator]] = {
    "procrustes": Procrustes,
    "ridge": Ridge,
    "kernel ridge": KernelRidge,
    "kernel ridge, spectrum not matched": lambda: KernelRidge(match_spectrum=False),
    "ridge, spectrum not matched": lambda: Ridge(match_spectrum=False),
}


def choose(task: Task, size: int, strategy: str, seed: int) -> np.ndarray:
    if strategy == "kmeans":
        return spread_rows(task.old, size, seed)
    return np.sort(np.random.default_rng(seed).permutation(len(task.old))[:size])


def isotrieve_translation(task: Task, anchors: np.ndarray) -> np.ndarray:
    from isotrieve import RidgeMapping

    mapping = RidgeMapping().fit(task.old[anchors], task.new[anchors])
    return np.asarray(mapping.transform(task.old), dtype=np.float32)


@dataclass(frozen=True)
class Chosen:
    """Which methods to run: those with one of ``words`` in their name, all where there are none."""

    words: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return not self.words or any(word in name for word in self.words)


def reading_texts(task: Task, anchors: np.ndarray) -> tuple[KernelRidge, np.ndarray]:
    """A translator that reads texts, and what it takes for all documents."""
    features = TokenFeatures.fit(token_table(task.target), [task.texts[i] for i in anchors])
    inputs = np.concatenate([task.old, features.transform(task.texts)], axis=1)
    translator = KernelRidge(text_dim=features.dimension)
    return translator.fit(inputs[anchors], task.new[anchors]), inputs


def fitted(task: Task, anchors: np.ndarray, method: str) -> tuple[KernelRidge, np.ndarray]:
    if method == TEXTS_READ:
        return reading_texts(task, anchors)
    return KernelRidge().fit(task.old[anchors], task.new[anchors]), task.old


def translations(
    task: Task, size: int, seed: int, chosen: Chosen
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield method, strategy and all documents translated."""
    for strategy in ("uniform", "kmeans"):
        anchors = choose(task, size, strategy, seed)
        if TEXTS_READ in chosen:
            translator, inputs = reading_texts(task, anchors)
            yield TEXTS_READ, strategy, translator.transform(inputs)
        for name, make in TRANSLATORS.items():
            if name not in chosen:
                continue
            yield (
                name,
                strategy,
                make().fit(task.old[anchors], task.new[anchors]).transform(task.old),
            )
        if find_spec("isotrieve") and "isotrieve ridge" in chosen:
            yield "isotrieve ridge", strategy, isotrieve_translation(task, anchors)


def kept_collection(
    task: Task, size: int, seed: int, method: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ways to hold translated vectors and the anchors' true ones in one collection."""
    anchors = choose(task, size, "uniform", seed)
    translator, inputs = fitted(task, anchors, method)
    translated = translator.transform(inputs)
    yield "all translated", translated
    scale = mixing_scale(translator.held_out_, task.new[anchors], len(task.old))
    for name, length in (("kept, scale 1", 1.0), ("kept, matched scale", scale)):
        mixed = translated * np.float32(length)
        mixed[anchors] = task.new[anchors]
        yield name, mixed


def reembedded_later(task: Task, seed: int, method: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield share, method and collection as documents are re-embedded beside a map that stays."""
    anchors = choose(task, REEMBEDDED_BESIDE, "kmeans", seed)
    translator, inputs = fitted(task, anchors, method)
    translated = translator.transform(inputs)
    scale = mixing_scale(translator.held_out_, task.new[anchors], len(task.old))
    others = np.setdiff1d(np.arange(len(task.old)), anchors)
    order = np.concatenate([anchors, np.random.default_rng(seed).permutation(others)])
    for count in (0, REEMBEDDED_BESIDE, *KEPT[1:]):
        mixed = translated * np.float32(scale)
        mixed[order[:count]] = task.new[order[:count]]
        yield f"{count / len(task.old):.0%}", method, mixed


def interval(values: list[float]) -> str:
    mean, n = np.mean(values), len(values)
    if n == 1:
        return f"{mean:.3f}"
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
    return f"{mean:.3f} ± {half:.3f}"


def table(title: str, heads: list[str], rows: dict[tuple, list[tuple[float, float]]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join([*heads, 'recall@10', 'R@10 retention'])} |"]
    lines.append("|" + "---|" * (len(heads) + 2))
    for key, scores in rows.items():
        recalls, retentions = zip(*scores, strict=True)
        cells = [*map(str, key), interval(list(recalls)), interval(list(retentions))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


TABLES = ("size", "budget", "later")
KERNEL_METHODS = (TEXTS_READ, "kernel ridge")

Scores = dict[tuple, list[tuple[float, float]]]


def kept_sizes(method: str, seed: int) -> tuple[int, ...]:
    """Large fits cost a minute each: as many seeds as the time allows, told in the table."""
    if seed == 0:
        return KEPT
    return KEPT[:-1] if seed < 2 or method == TEXTS_READ else KEPT[:-2]


def measured(
    task: Task, seed: int, chosen: Chosen, arguments: argparse.Namespace
) -> Iterator[tuple[str, tuple, np.ndarray]]:
    """Yield table, key and collection of each row to make of one anchor seed."""
    if "size" in arguments.tables:
        for size in SIZES:
            for name, strategy, vectors in translations(task, size, seed, chosen):
                yield "size", (task.name, size, strategy, name), vectors
    for method in KERNEL_METHODS:
        if method not in chosen:
            continue
        if "later" in arguments.tables:
            for share, name, vectors in reembedded_later(task, seed, method):
                yield "later", (task.name, share, name), vectors
        if "budget" in arguments.tables:
            for size in arguments.kept or kept_sizes(method, seed):
                share = f"{size / len(task.old):.0%}"
                for name, vectors in kept_collection(task, size, seed, method):
                    yield "budget", (task.name, share, method, name), vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--tasks", nargs="*", default=["minilm:mpnet", "mpnet:minilm"])
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=TABLES)
    parser.add_argument("--kept", nargs="*", type=int, help="sizes of the budget table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.time()
    chosen = Chosen(tuple(arguments.methods))
    pairs = [tuple(pair.split(":")) for pair in arguments.tasks]
    rows = earlier(arguments.out)
    made: set[tuple[str, tuple]] = set()
    for source, target in pairs:
        task = Task.load(source, target)
        for seed in range(arguments.first_seed, arguments.seeds):
            for table, key, vectors in measured(task, seed, chosen, arguments):
                if not arguments.first_seed and (table, key) not in made:
                    rows[table][key] = []
                made.add((table, key))
                rows[table].setdefault(key, []).append(task.score(vectors))
            print(f"{task.name}, seed {seed}: {time.time() - begun:.0f} s", flush=True)
            write(arguments.out, rows)


def earlier(out: Path) -> dict[str, Scores]:
    """Rows of earlier runs, by table."""
    path = out / "translators.json"
    stored: dict[str, Scores] = {table: {} for table in TABLES}
    for record in json.loads(path.read_text())["records"] if path.exists() else []:
        stored[record["table"]][tuple(record["key"])] = [tuple(s) for s in record["scores"]]
    return stored


def in_order(rows: Scores) -> Scores:
    """By task and size, as first met within them."""
    places = {key: place for place, key in enumerate(rows)}

    def order(key: tuple) -> tuple:
        size = key[1] if isinstance(key[1], int) else int(key[1].rstrip("%"))
        return (key[0], size, key[2] if isinstance(key[1], int) else "", places[key])

    return {key: rows[key] for key in sorted(rows, key=order)}


def write(out: Path, rows: dict[str, Scores]) -> None:
    packages = ("vecmigrate", "numpy", "scipy", "faiss-cpu", "isotrieve")
    versions = {p: version(p) for p in packages if p != "isotrieve" or find_spec("isotrieve")}
    facts = {"date": date.today().isoformat(), "machine": platform.machine(), "versions": versions}
    out.mkdir(exist_ok=True)
    records = [
        {"table": table, "key": list(key), "scores": scores}
        for table in TABLES
        for key, scores in rows[table].items()
    ]
    (out / "translators.json").write_text(json.dumps({**facts, "records": records}, indent=1))
    (out / "translators.md").write_text(
        f"# benchmarks/translators.py\n\nShared WordNet set, exact search, mean and 95 % interval "
        f"over anchor seeds; {facts['date']}, {versions}.\n\n"
        + table(
            "Recall by anchors", ["task", "anchors", "strategy", "method"], in_order(rows["size"])
        )
        + "\n"
        + table(
            "Anchors' true vectors kept beside translated ones (uniform anchors)",
            ["task", "share kept", "method", "collection", "seeds"],
            with_seeds(in_order(rows["budget"])),
        )
        + "\n"
        + table(
            f"More re-embedded beside a map of {REEMBEDDED_BESIDE:,} k-means anchors that stays",
            ["task", "share re-embedded", "method", "seeds"],
            with_seeds(in_order(rows["later"])),
        )
    )


def with_seeds(rows: Scores) -> Scores:
    return {(*key, len(scores)): scores for key, scores in rows.items()}


if __name__ == "__main__":
    main()
