"""Collections whose points get a second vector in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models

from support.qdrant.places import Place
from vecmigrate import Procrustes, save_translator

OLD, NEW, COUNT, FEW = 8, 12, 1000, 200
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((2 * COUNT, OLD)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
TRANSLATOR = Procrustes().fit(ROWS[:100], RNG.standard_normal((100, NEW)).astype(np.float32))
SPARSE = models.SparseVector(indices=[3, 17], values=[0.5, 1.5])


def fill(place: Place, count: int = FEW, *, lacking: tuple[int, ...] = ()) -> str:
    """Points with the vector ``old`` and a sparse one; some may have the latter alone."""
    name = place.name()
    cosine = models.VectorParams(size=OLD, distance=models.Distance.COSINE)
    with place.client() as client:
        client.create_collection(
            name,
            vectors_config={"old": cosine},
            sparse_vectors_config={"words": models.SparseVectorParams()},
            metadata={"owner": "search"},
        )
        for start in range(0, count, 100):
            client.upsert(
                name,
                [
                    models.PointStruct(
                        id=i,
                        vector={"words": SPARSE}
                        if i in lacking
                        else {"old": ROWS[i].tolist(), "words": SPARSE},
                        payload={"text": f"text {i}", "nested": {"n": [i]}},
                    )
                    for i in range(start, start + 100)
                ],
            )
    return name


def uris(place: Place, name: str) -> tuple[str, str]:
    return place.uri(name, "vector=old"), place.uri(name, "vector=new&in_place=true")


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "t.safetensors"
    if not path.exists():
        save_translator(TRANSLATOR, path)
    return path


def records(place: Place, name: str) -> dict[Any, Any]:
    with place.client() as client:
        found, _ = client.scroll(name, limit=COUNT, with_payload=True, with_vectors=True)
    return {record.id: record for record in found}
