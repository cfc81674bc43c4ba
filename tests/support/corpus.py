"""A small corpus in the shape of a user's: texts, and an old index of their vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

N, OLD_DIM, NEW_DIM = 400, 16, 24


@dataclass(frozen=True)
class Corpus:
    """Files of a corpus under two encoders that are rotations of one another, plus noise.

    Attributes
    ----------
    source
        URI of the old FAISS index, texts in its sidecar.
    encoder
        Name of the new encoder: ready-made vectors.
    old, new
        ``(n, 16)`` and ``(n, 24)`` unit vectors.
    """

    folder: Path
    source: str
    encoder: str
    old: np.ndarray
    new: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_corpus(folder: Path, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    old = unit(rng.standard_normal((N, OLD_DIM)))
    rotation = np.linalg.qr(rng.standard_normal((NEW_DIM, NEW_DIM)))[0][:OLD_DIM]
    new = unit(old @ rotation + 0.02 * rng.standard_normal((N, NEW_DIM)))
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(old)
    faiss.write_index(index, str(folder / "old.faiss"))
    records = [{"id": i, "text": f"text number {i}", "group": i % 5} for i in range(N)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "old.jsonl").write_text(lines)
    np.save(folder / "new.npy", new)
    return Corpus(
        folder, f"faiss:{folder}/old.faiss", f"vectors:{folder}/new.npy?name=new-model", old, new
    )
