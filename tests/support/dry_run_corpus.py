"""A corpus large enough to measure on: texts, two encoders, a query log with labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np

from vecmigrate.connector import EncoderIdentity, IdArray, PointId

N, QUERIES, TOPICS = 3000, 300, 12
OLD_DIM, NEW_DIM = 24, 32


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class DryRunCorpus:
    """Files, and the vectors behind them.

    Attributes
    ----------
    old, new
        ``(N, d)`` documents.
    old_queries, new_queries
        ``(QUERIES, d)``.
    """

    folder: Path
    old: np.ndarray
    new: np.ndarray
    old_queries: np.ndarray
    new_queries: np.ndarray

    @property
    def source(self) -> str:
        return f"faiss:{self.folder}/old.faiss"

    @property
    def encoder(self) -> str:
        return f"vectors:{self.folder}/new.npy?name=new-model"

    @property
    def query_encoder(self) -> str:
        return f"vectors:{self.folder}/new-queries.npy?name=new-model"

    @property
    def old_encoder(self) -> str:
        return f"vectors:{self.folder}/old-queries.npy?name=old-model"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"


def make_dry_run_corpus(folder: Path) -> DryRunCorpus:
    """Documents and queries of topics; each encoder sees them through its own curved map."""
    rng = np.random.default_rng(5)
    topics = rng.standard_normal((TOPICS, 16))
    meaning = topics[rng.integers(0, TOPICS, N)] + 0.7 * rng.standard_normal((N, 16))
    about = rng.integers(0, N, QUERIES)
    asked = meaning[about] + 0.35 * rng.standard_normal((QUERIES, 16))
    maps = [rng.standard_normal((16, d)) / 4 for d in (OLD_DIM, NEW_DIM)]
    vectors = []
    for mapping in maps:
        for points in (meaning, asked):
            seen = np.tanh(points @ mapping) + 0.1 * rng.standard_normal(
                (len(points), mapping.shape[1])
            )
            vectors.append(unit(seen))
    old, old_queries, new, new_queries = vectors
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(old)
    faiss.write_index(index, str(folder / "old.faiss"))
    with (folder / "old.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": i, "text": f"document {i}"}) + "\n" for i in range(N))
    with (folder / "log.jsonl").open("w") as file:
        for i, document in enumerate(about.tolist()):
            line = {"id": i, "text": f"query {i}", "relevant": [document]}
            file.write(json.dumps(line) + "\n")
    for name, array in (
        ("new", new), ("new-queries", new_queries), ("old-queries", old_queries)
    ):  # fmt: skip
        np.save(folder / f"{name}.npy", array)
    return DryRunCorpus(folder, old, new, old_queries, new_queries)


@dataclass
class TextEncoder:
    """Encodes the texts of a :class:`DryRunCorpus`, and counts what it is asked for.

    Attributes
    ----------
    noise
        Standard deviation of what is added anew each time: an encoder that is not to be trusted.
    """

    corpus: DryRunCorpus
    noise: float = 0.0
    texts: list[str] = field(default_factory=list)
    needs_texts = True
    identity = EncoderIdentity(name="new-model", dimension=NEW_DIM, normalized=True)

    def encode(
        self,
        texts: Sequence[str] | None,
        *,
        ids: Sequence[PointId] | IdArray | None = None,
        role: str = "document",
    ) -> np.ndarray:
        assert texts is not None
        self.texts += texts
        rows = [text.split() for text in texts]
        vectors = np.stack(
            [
                (self.corpus.new if kind == "document" else self.corpus.new_queries)[int(number)]
                for kind, number in rows
            ]
        )
        if self.noise:
            vectors = vectors + self.noise * np.random.default_rng().standard_normal(vectors.shape)
        return unit(vectors)
