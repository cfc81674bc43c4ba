"""Are the dry run's two-stage and mixed rows right? Bias and coverage, where the truth is known.

    python benchmarks/dry_run_routes.py --seeds 30        # about an hour on 2 cores

On both shared sets, in both directions, each seed draws other anchors, other probes and other
documents to re-embed, every other one re-embeds by uncertainty, and the rest at random. The truth
is that seed's own map, exactly: two stages rank every query's candidates by true scores, and
mixtures are searched whole. Results go to ``benchmarks/results/dry_run_routes.json`` after each
seed, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from vecmigrate import load_anchors, load_translator
from vecmigrate.anchors.keeper import used_scale
from vecmigrate.dry_run import DryRunOptions, dry_run
from vecmigrate.evaluation import Query, read_queries
from vecmigrate.evaluation.metrics import ndcg
from vecmigrate.report.schema import DryRunReport, Estimate, Route, RouteKind
from vecmigrate.translators.file import read_card

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data"
BUDGETS = {"wordnet": (2000, 4500), "debian": (800, 2400)}
"""Anchors, and texts besides."""
ORDERS = ("uncertainty", "random")
DAY = 200
"""Queries a day."""


@dataclass(frozen=True)
class Move:
    """Vectors of a set's documents under two encoders, and its queries under the new one."""

    name: str
    old_encoder: str
    new_encoder: str
    old: np.ndarray
    new: np.ndarray
    queries: np.ndarray
    log: list[Query]

    @classmethod
    def load(cls, name: str, source: str, target: str) -> Move:
        old, new, queries = (
            _unit(np.load(DATA / name / f"{part}.f16.npy").astype(np.float32))
            for part in (f"{source}.docs", f"{target}.docs", f"{target}.queries")
        )
        log = read_queries(DATA / name / "queries.jsonl")
        return cls(name, source, target, old, new, queries, log)

    @property
    def label(self) -> str:
        return f"{self.name}, {self.old_encoder} to {self.new_encoder}"

    def vectors(self, encoder: str, part: str) -> str:
        return f"vectors:{DATA / self.name}/{encoder}.{part}.f16.npy?name={encoder}"

    def write(self, folder: Path) -> str:
        index = faiss.IndexFlatIP(self.old.shape[1])
        index.add(self.old)
        faiss.write_index(index, str(folder / "old.faiss"))
        shutil.copyfile(DATA / self.name / "docs.jsonl", folder / "old.jsonl")
        return f"faiss:{folder}/old.faiss"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """``(q, k)`` columns of the greatest, best first."""
    first = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, first, axis=1), axis=1)
    return np.take_along_axis(first, order, axis=1)


@dataclass(frozen=True)
class Truth:
    """What one seed's map really serves.

    Attributes
    ----------
    true, translated
        ``(q, n)`` scores of every query and document.
    nearest
        ``(q, 10)`` true ones.
    variance
        ``(n,)`` that the map tells.
    """

    move: Move
    true: np.ndarray
    translated: np.ndarray
    nearest: np.ndarray
    variance: np.ndarray
    anchors: np.ndarray
    scale: float
    seed: int

    @classmethod
    def of(cls, move: Move, out: Path, report: DryRunReport, seed: int) -> Truth:
        file = out / report.translator.file
        vectors, variance = load_translator(file).transform_with_variance(move.old)
        true = move.queries @ move.new.T
        return cls(
            move=move,
            true=true,
            translated=move.queries @ vectors.T,
            nearest=best(true, 10),
            variance=variance,
            anchors=load_anchors(out / "anchors.parquet").ids.astype(int),
            scale=used_scale(read_card(file).mixing_scale),
            seed=seed,
        )

    def recall(self, found: np.ndarray) -> np.ndarray:
        """``(q,)`` recall@10 of found documents, any number of them."""
        pairs = zip(found.tolist(), self.nearest.tolist(), strict=True)
        return np.array([len(set(mine) & set(theirs)) / 10 for mine, theirs in pairs])

    def rows(self, route: Route) -> Iterator[tuple[str, Estimate, float]]:
        """Each figure of a row with its truth."""
        labels = [query.relevant for query in self.move.log]
        estimate = route.figures["recall@10"]
        [labelled] = [m.value for m in route.labelled if m.name == "nDCG@10"]
        if route.kind is RouteKind.TWO_STAGE:
            assert route.candidates is not None
            assert route.query is not None
            first = best(self.translated, route.candidates)
            ranked = np.take_along_axis(self.true, first, axis=1)
            served = np.take_along_axis(first, best(ranked, 10), axis=1)
            name = f"two stages, {route.candidates}"
            yield f"{name}: recall@10", estimate, float(self.recall(first).mean())
            yield f"{name}: labelled nDCG@10", labelled, float(ndcg(served, labels, 10).mean())
            yield f"{name}: texts a query", route.query.texts, self.texts(first)
        elif route.kind is RouteKind.MIXED:
            assert route.share is not None
            assert route.order is not None
            served = best(self.mixture(route.order, route.share), 10)
            name = f"{route.order}, {route.share:.0%} re-embedded"
            yield f"{name}: recall@10", estimate, float(self.recall(served).mean())
            yield f"{name}: labelled nDCG@10", labelled, float(ndcg(served, labels, 10).mean())

    def texts(self, first: np.ndarray) -> float:
        """Texts that a query of a day embeds, each once, over all choices of a day's queries."""
        fresh = first[~np.isin(first, self.anchors)]
        times = np.unique(fresh, return_counts=True)[1]
        n = len(first)
        steps = np.arange(int(times.max()))
        missed = np.cumprod(np.maximum(n - DAY - steps, 0) / (n - steps))
        return float((1 - missed)[times - 1].sum()) / DAY

    def mixture(self, order: str, share: float) -> np.ndarray:
        """``(q, n)`` scores in the collection."""
        n, value = len(self.move.new), self.variance
        if order == "random":
            value = np.random.default_rng(self.seed).random(n)
        others = np.setdiff1d(np.arange(n), self.anchors)
        more = others[np.argsort(-value[others], kind="stable")]
        fresh = np.zeros(n, bool)
        fresh[self.anchors] = True
        fresh[more[: round(share * n) - len(self.anchors)]] = True
        return np.where(fresh, self.true, np.float32(self.scale) * self.translated)


def one_seed(move: Move, source: str, seed: int) -> dict[str, list[float]]:
    anchors, measuring = BUDGETS[move.name]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as out:
        report = dry_run(
            source,
            move.vectors(move.new_encoder, "docs"),
            out,
            query_encoder=move.vectors(move.new_encoder, "queries"),
            queries=move.log,
            options=DryRunOptions(
                anchors=anchors,
                budget=anchors + measuring,
                method="kernel-ridge",
                order=ORDERS[seed % len(ORDERS)],
                queries_per_day=DAY,
                seed=seed,
            ),
        )
        truth = Truth.of(move, Path(out), report, seed)
    assert report.routes is not None
    return {
        name: [estimate.value, estimate.low, estimate.high, true]
        for route in report.routes.rows
        for name, estimate, true in truth.rows(route)
    }


def line(name: str, rows: list[list[float]]) -> str:
    value, low, high, truth = np.array(rows).T
    error = value - truth
    covered = ((low <= truth) & (truth <= high)).mean()
    digits = 1 if "texts" in name else 3
    return (
        f"| {name} | {len(rows)} | {truth.mean():.{digits}f} | {value.mean():.{digits}f} | "
        f"{error.mean():+.{digits + 1}f} | {error.std(ddof=1):.{digits + 1}f} | "
        f"{((high - low) / 2).mean():.{digits}f} | {covered:.1%} |"
    )


def summary(results: dict[str, list[dict[str, list[float]]]]) -> str:
    by_row: dict[str, list[list[float]]] = defaultdict(list)
    pooled: dict[str, list[list[float]]] = defaultdict(list)
    seeds = 0
    for of_move in results.values():
        seeds = max(seeds, len(of_move))
        for rows in of_move:
            for name, found in rows.items():
                by_row[name].append(found)
                route, _, figure = name.partition(": ")
                kind = "two stages" if route.startswith("two") else "mixtures"
                pooled[f"**{kind}, {figure}**"].append(found)
                if figure == "recall@10":
                    pooled["**both, recall@10**"].append(found)
    budgets = ", ".join(f"{a:,} of {name}'s" for name, (a, _) in BUDGETS.items())
    head = "| figure | n | truth, mean | estimate, mean | bias | error, sd | half-width | covered |"
    lines = [
        f"`python benchmarks/dry_run_routes.py --seeds {seeds}`: shared WordNet and Debian sets, "
        f"MiniLM to mpnet and back, kernel ridge by vectors, k-means anchors ({budgets} documents),"
        f" {seeds} seeds each, {DAY} queries a day; numpy {version('numpy')}, faiss-cpu "
        f"{version('faiss-cpu')}, {datetime.now(UTC).date()}.",
        "",
        head,
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(name, rows) for name, rows in sorted(pooled.items())]
    lines += [line(name, by_row[name]) for name in sorted(by_row, key=_by_number)]
    for label, of_move in results.items():
        mine: dict[str, list[list[float]]] = defaultdict(list)
        for rows in of_move:
            for name, found in rows.items():
                if name.endswith(": recall@10"):
                    mine["two stages" if name.startswith("two") else "mixtures"].append(found)
        lines += [line(f"{label}: {kind}, recall@10", found) for kind, found in mine.items()]
    return "\n".join(lines) + "\n"


def _by_number(name: str) -> tuple[str, int]:
    words = name.replace(":", "").replace(",", "").replace("%", "").split()
    return name.rpartition(": ")[2], int(next(word for word in words if word.isdigit()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--sets", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    given = parser.parse_args()
    path = RESULTS / "dry_run_routes.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    moves = [
        Move.load(name, *pair)
        for name in given.sets
        for pair in (("minilm", "mpnet"), ("mpnet", "minilm"))
    ]
    for seed in range(given.seeds):
        for move in moves:
            done = results.setdefault(move.label, [])
            if len(done) > seed:
                continue
            with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
                done.append(one_seed(move, move.write(Path(folder)), seed))
            path.write_text(json.dumps(results) + "\n")
            print(f"{move.label}, seed {seed}", file=sys.stderr, flush=True)
    text = summary(results)
    (RESULTS / "dry_run_routes.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
