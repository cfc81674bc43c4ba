"""Is the dry run's estimate right? Bias and coverage over many seeds, where the truth is known.

    python benchmarks/dry_run.py --seeds 40        # about a minute a seed on 2 cores

Each seed draws other anchors, other probes and other documents to re-embed, on the shared WordNet
set, MiniLM to mpnet. The truth is that seed's own map, exactly: all 30,000 documents, all 1,545
queries. Beside it stands the figure that a comparison inside the anchors gives. Results go to
``benchmarks/results/dry_run.json`` after each seed, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from wordnet import DATA, Task

from vecmigrate import load_anchors, load_translator
from vecmigrate.anchors.keeper import used_scale
from vecmigrate.dry_run import DryRunOptions, dry_run
from vecmigrate.dry_run.options import CUTOFFS
from vecmigrate.evaluation import read_queries
from vecmigrate.evaluation.metrics import labelled_recall, ndcg, recall_against, reciprocal_rank
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric
from vecmigrate.report.schema import Estimate
from vecmigrate.translators import read_card

RESULTS = Path(__file__).parent / "results"
MEASURING = 4500
LABELLED = {"recall@10": labelled_recall, "MRR@10": reciprocal_rank, "nDCG@10": ndcg}


def search(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    batch = VectorBatch(np.arange(len(vectors)), np.ascontiguousarray(vectors, np.float32))
    return exact_search([batch], queries, k, Metric.DOT)


def neighbour_ndcg(found: np.ndarray, truth: np.ndarray) -> float:
    labels = [dict.fromkeys(row[:10].tolist(), 1.0) for row in truth]
    return float(ndcg(found, labels, 10).mean())


def document_recall(task: Task, translated: np.ndarray, anchors: np.ndarray) -> float:
    """recall@10 with documents that are no anchors as queries, themselves left out."""
    rows = np.setdiff1d(np.arange(len(task.new)), anchors)
    rows = np.random.default_rng(0).permutation(rows)[:2000]
    shares = []
    found = search(translated, task.new[rows], 11)
    truth = search(task.new, task.new[rows], 11)
    for row, a, b in zip(rows.tolist(), found.tolist(), truth.tolist(), strict=True):
        mine = [i for i in a if i != row][:10]
        theirs = [i for i in b if i != row][:10]
        shares.append(len(set(mine) & set(theirs)) / 10)
    return float(np.mean(shares))


def curve_truth(
    task: Task, translated: np.ndarray, anchors: np.ndarray, share: float, scale: float, seed: int
) -> float:
    """recall@10 with a random share re-embedded, anchors first, on a migration's scale."""
    rng = np.random.default_rng(seed)
    others = np.setdiff1d(np.arange(len(task.new)), anchors)
    more = rng.permutation(others)[: round(share * len(task.new)) - len(anchors)]
    fresh = np.concatenate([anchors, more])
    mixed = translated * np.float32(scale)
    mixed[fresh] = task.new[fresh]
    return task.score(mixed)[0]


def one_seed(task: Task, source: str, anchors: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as out:
        report = dry_run(
            source,
            f"vectors:{DATA}/mpnet.docs.f16.npy?name=mpnet",
            out,
            old_encoder=f"vectors:{DATA}/minilm.queries.f16.npy?name=minilm",
            query_encoder=f"vectors:{DATA}/mpnet.queries.f16.npy?name=mpnet",
            queries=read_queries(DATA / "queries.jsonl"),
            options=DryRunOptions(
                anchors=anchors,
                budget=anchors + MEASURING,
                method="kernel-ridge",
                seed=seed,
            ),
        )
        drawn = load_anchors(Path(out) / "anchors.parquet").ids
        file = Path(out) / "translator.safetensors"
        translated = load_translator(file).transform(task.old)
        scale = used_scale(read_card(file).mixing_scale)
    found, full = (search(v, task.queries, max(CUTOFFS)) for v in (translated, task.new))
    rows = {
        f"recall@{k}": (report.recall.at[k], float(recall_against(found, full, k).mean()))
        for k in CUTOFFS
    }
    rows["nDCG@10"] = (report.recall.ndcg_at_10, neighbour_ndcg(found, full))
    for metric in report.upgrade.labelled:
        true = float(LABELLED[metric.name](full, task.labels, 10).mean())
        rows[f"labelled {metric.name}, re-embedded"] = (metric.reembedded, true)
        true = float(LABELLED[metric.name](found, task.labels, 10).mean())
        rows[f"labelled {metric.name}, translated"] = (metric.translated, true)
    if report.recall.documents_at_10 is not None:
        rows["recall@10, documents as queries"] = (
            report.recall.documents_at_10,
            document_recall(task, translated, drawn),
        )
    curve = next(line for line in report.curve.lines if line.order == "random")
    for point in curve.points:
        if point.share in (0.2, 0.4, 0.6):
            true = curve_truth(task, translated, drawn, point.share, scale, seed)
            rows[f"recall@10, {point.share:.0%} re-embedded at random"] = (point.recall_at_10, true)
    inside = report.recall.in_sample_at_10
    rows["inside the anchors (naive)"] = (
        Estimate(value=inside, low=inside, high=inside),
        rows["recall@10"][1],
    )
    spent = report.spending
    return {
        "seed": seed,
        "probes": report.probes.used,
        "measuring_texts": spent.queries + spent.documents,
        "seconds": report.seconds,
        "rows": {name: [e.value, e.low, e.high, truth] for name, (e, truth) in rows.items()},
    }


def summary(results: list[dict[str, Any]], anchors: int) -> str:
    lines = [
        f"`python benchmarks/dry_run.py --anchors {anchors} --seeds {len(results)}`: shared "
        f"WordNet set, MiniLM to mpnet, kernel ridge, {anchors:,} k-means anchors, "
        f"{len(results)} seeds, {np.mean([r['probes'] for r in results]):.0f} probes and at most "
        f"{max(r['measuring_texts'] for r in results):,} texts besides the anchors a seed; "
        f"numpy {version('numpy')}, faiss-cpu {version('faiss-cpu')}, "
        f"{datetime.now(UTC).date()}.",
        "",
        "| figure | truth, mean | estimate, mean | bias | its standard error | error, sd | "
        "interval, mean half-width | covered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in results[0]["rows"]:
        value, low, high, truth = np.array([r["rows"][name] for r in results]).T
        error = value - truth
        covered = ((low <= truth) & (truth <= high)).mean()
        naive = "naive" in name
        lines.append(
            f"| {name} | {truth.mean():.3f} | {value.mean():.3f} | {error.mean():+.4f} | "
            f"{error.std(ddof=1) / np.sqrt(len(error)):.4f} | {error.std(ddof=1):.4f} | "
            + ("- | - |" if naive else f"{((high - low) / 2).mean():.3f} | {covered:.0%} |")
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--anchors", type=int, default=2000)
    given = parser.parse_args()
    path = RESULTS / "dry_run.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    results = stored.get("results", []) if stored.get("anchors") == given.anchors else []
    task = Task.load("minilm", "mpnet")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        index = faiss.IndexFlatIP(task.old.shape[1])
        index.add(task.old)
        faiss.write_index(index, f"{folder}/old.faiss")
        shutil.copyfile(DATA / "docs.jsonl", f"{folder}/old.jsonl")
        for seed in range(len(results), given.seeds):
            results.append(one_seed(task, f"faiss:{folder}/old.faiss", given.anchors, seed))
            path.write_text(json.dumps({"anchors": given.anchors, "results": results}) + "\n")
            value, low, high, truth = results[-1]["rows"]["recall@10"]
            print(
                f"seed {seed}: {value:.3f} [{low:.3f}, {high:.3f}], truth {truth:.3f}, "
                f"{results[-1]['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    text = summary(results, given.anchors)
    (RESULTS / "dry_run.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
