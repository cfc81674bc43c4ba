"""Recall by anchors of each translator, beside isotrieve, on the shared WordNet set.

``python benchmarks/translators.py --out benchmarks/results`` (two hours on 2 cores; isotrieve 0.4.0
is measured where ``pip install --no-deps isotrieve==0.4.0`` was run). Writes ``translators.json``
and ``translators.md``. With ``--methods texts isotrieve``, only methods with one of these words in
their name are run, and take the place of their own rows; so with ``--tasks`` and ``--sizes-only``.
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
from wordnet import ENCODERS, TEXTS_READ, Task

from vecmigrate import KernelRidge, Procrustes, Ridge, Translator
from vecmigrate.translators.landmarks import spread_rows
from vecmigrate.translators.mixing import mixing_scale
from vecmigrate.translators.token_features import TokenFeatures

SEEDS = range(5)
SIZES = (1000, 2000, 4000)
KEPT = (1500, 3000, 6000, 12_000, 24_000)
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
    if method == TEXTS_READ:
        translator, inputs = reading_texts(task, anchors)
    else:
        translator, inputs = KernelRidge().fit(task.old[anchors], task.new[anchors]), task.old
    translated = translator.transform(inputs)
    yield "all translated", translated
    scale = mixing_scale(translator.held_out_, task.new[anchors], len(task.old))
    for name, length in (("kept, scale 1", 1.0), ("kept, matched scale", scale)):
        mixed = translated * np.float32(length)
        mixed[anchors] = task.new[anchors]
        yield name, mixed


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--tasks", nargs="*", default=["minilm:mpnet", "mpnet:minilm"])
    parser.add_argument("--sizes-only", action="store_true", help="leave out what is kept")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.time()
    chosen = Chosen(tuple(arguments.methods))
    pairs = [tuple(pair.split(":")) for pair in arguments.tasks]
    again = {f"{ENCODERS[source]} to {ENCODERS[target]}" for source, target in pairs}
    by_size, by_budget = earlier(arguments.out, chosen, again, kept=arguments.sizes_only)
    for source, target in pairs:
        task = Task.load(source, target)
        for seed in range(arguments.seeds):
            for size in SIZES:
                for name, strategy, vectors in translations(task, size, seed, chosen):
                    key = (task.name, size, strategy, name)
                    by_size.setdefault(key, []).append(task.score(vectors))
            # Large fits cost a minute each: as many seeds as the time allows, told in the table.
            for method in (TEXTS_READ, "kernel ridge"):
                sizes = KEPT if seed == 0 else KEPT[:-1] if seed < 2 else KEPT[:-2]
                if method == TEXTS_READ and seed >= 2:
                    sizes = KEPT[:-1]
                if arguments.sizes_only or method not in chosen:
                    continue
                for size in sizes:
                    for name, vectors in kept_collection(task, size, seed, method):
                        key = (task.name, f"{size / len(task.old):.0%}", method, name)
                        by_budget.setdefault(key, []).append(task.score(vectors))
            print(f"{task.name}, seed {seed}: {time.time() - begun:.0f} s", flush=True)
            write(arguments.out, by_size, by_budget)


Scores = dict[tuple, list[tuple[float, float]]]


def earlier(out: Path, chosen: Chosen, tasks: set[str], *, kept: bool) -> tuple[Scores, Scores]:
    """Rows of an earlier run that this one does not make again, by size and by budget.

    ``kept`` is True where none is made again of the vectors kept.
    """
    path = out / "translators.json"
    stored: dict[str, Scores] = {"size": {}, "budget": {}}
    for record in json.loads(path.read_text())["records"] if path.exists() else []:
        key = record["key"]
        method = key[3] if record["table"] == "size" else key[2]
        budget = record["table"] == "budget"
        if method not in chosen or key[0] not in tasks or (kept and budget):
            stored[record["table"]][tuple(key)] = [tuple(s) for s in record["scores"]]
    return stored["size"], stored["budget"]


def in_order(rows: Scores) -> Scores:
    """By task and size, as first met within them."""
    places = {key: place for place, key in enumerate(rows)}

    def order(key: tuple) -> tuple:
        size = key[1] if isinstance(key[1], int) else int(key[1].rstrip("%"))
        return (key[0], size, key[2] if isinstance(key[1], int) else "", places[key])

    return {key: rows[key] for key in sorted(rows, key=order)}


def write(
    out: Path,
    by_size: dict[tuple, list[tuple[float, float]]],
    by_budget: dict[tuple, list[tuple[float, float]]],
) -> None:
    packages = ("vecmigrate", "numpy", "scipy", "faiss-cpu", "isotrieve")
    versions = {p: version(p) for p in packages if p != "isotrieve" or find_spec("isotrieve")}
    facts = {"date": date.today().isoformat(), "machine": platform.machine(), "versions": versions}
    out.mkdir(exist_ok=True)
    records = [
        {"table": table, "key": list(key), "scores": scores}
        for table, rows in (("size", by_size), ("budget", by_budget))
        for key, scores in rows.items()
    ]
    (out / "translators.json").write_text(json.dumps({**facts, "records": records}, indent=1))
    seeds = {key: len(scores) for key, scores in by_budget.items()}
    (out / "translators.md").write_text(
        f"# benchmarks/translators.py\n\nShared WordNet set, exact search, mean and 95 % interval "
        f"over anchor seeds; {facts['date']}, {versions}.\n\n"
        + table("Recall by anchors", ["task", "anchors", "strategy", "method"], in_order(by_size))
        + "\n"
        + table(
            "Re-embedded vectors kept beside translated ones (uniform anchors)",
            ["task", "share kept", "method", "collection", "seeds"],
            {(*key, seeds[key]): scores for key, scores in in_order(by_budget).items()},
        )
    )


if __name__ == "__main__":
    main()
