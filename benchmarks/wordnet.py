"""The shared WordNet set as a retrieval task, for the benchmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecmigrate.evaluation.metrics import labelled_recall, recall_against
from vecmigrate.evaluation.search import exact_search
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric

DATA = Path(__file__).parents[2] / "shared" / "data" / "wordnet"
TEXTS_READ = "kernel ridge, texts read"
ENCODERS = {"minilm": "MiniLM", "mpnet": "mpnet"}


@dataclass(frozen=True)
class Task:
    """Vectors of 30,000 documents under two encoders, and queries under the new one.

    Attributes
    ----------
    target
        ``minilm`` or ``mpnet``: the new encoder.
    texts
        Of the documents.
    old, new
        ``(30000, d)`` documents.
    queries
        ``(1545, d_new)``.
    labels
        Relevant ids of each query; used to report, never to choose.
    """

    name: str
    target: str
    texts: list[str]
    old: np.ndarray
    new: np.ndarray
    queries: np.ndarray
    labels: list[dict[int, float]]
    truth: np.ndarray
    full: float

    @classmethod
    def load(cls, source: str, target: str) -> Task:
        """Load the task of moving from encoder ``source`` to ``target``."""
        old, new, queries = (
            _unit(np.load(DATA / f"{name}.f16.npy").astype(np.float32))
            for name in (f"{source}.docs", f"{target}.docs", f"{target}.queries")
        )
        lines = (DATA / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        labels = [dict.fromkeys(json.loads(line)["relevant"], 1.0) for line in lines]
        truth = _search(new, queries)
        full = float(labelled_recall(truth, labels, 10).mean())
        name = f"{ENCODERS[source]} to {ENCODERS[target]}"
        documents = (DATA / "docs.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in documents]
        return cls(name, target, texts, old, new, queries, labels, truth, full)

    def search(self, vectors: np.ndarray) -> np.ndarray:
        """Return the ids of each query's ten nearest among these document vectors."""
        return _search(vectors, self.queries)

    def score(self, vectors: np.ndarray) -> tuple[float, float]:
        """Return recall@10 and R@10 retention of a collection of these document vectors."""
        found = self.search(vectors)
        recall = float(recall_against(found, self.truth, 10).mean())
        return recall, float(labelled_recall(found, self.labels, 10).mean()) / self.full


def _search(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    batch = VectorBatch(np.arange(len(vectors)), np.ascontiguousarray(vectors))
    return exact_search([batch], queries, 10, Metric.DOT)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
