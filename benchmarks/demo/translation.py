"""What translation alone costs on the demo's data: the table of the README.

    OMP_NUM_THREADS=1 python benchmarks/demo/translation.py

The glosses of ``make demo`` are moved by a map that reads vectors alone, from FAISS and from
embedded Qdrant, and compared with full re-embedding.
"""

from __future__ import annotations

import numpy as np
from main_job import (
    LOG,
    NEW,
    OLD,
    OLD_QUERIES,
    OUT,
    build_old_index,
    fresh_folder,
    step,
    vecmigrate,
)
from qdrant_client import QdrantClient
from qdrant_client.models import Batch, Distance, HnswConfigDiff, VectorParams

from vecmigrate import load_anchors, open_encoder, open_sink
from vecmigrate.anchors import AnchorSet
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric, TargetSpec


def build_old_collection(documents: list[dict], vectors: np.ndarray) -> None:
    client = QdrantClient(path=str(OUT / "qdrant"))
    client.create_collection(
        "old",
        vectors_config=VectorParams(size=vectors.shape[1], distance=Distance.COSINE),
        hnsw_config=HnswConfigDiff(m=32),
    )
    for start in range(0, len(documents), 1000):
        part = documents[start : start + 1000]
        client.upsert(
            "old",
            Batch(
                ids=[d["id"] for d in part],
                vectors=vectors[start : start + 1000].tolist(),
                payloads=[{"text": d["text"], "synset": d["synset"]} for d in part],
            ),
        )
    client.close()


def build_reference(documents: list[dict], anchors: AnchorSet) -> None:
    """Re-embed the rest too, to know the truth."""
    encoder = open_encoder(NEW)
    vectors = np.empty((len(documents), encoder.identity.dimension), np.float32)
    vectors[anchors.ids] = anchors.target_vectors
    rest = np.setdiff1d(np.arange(len(documents)), anchors.ids)
    vectors[rest] = encoder.encode([documents[i]["text"] for i in rest])
    spec = TargetSpec(dimension=vectors.shape[1], metric=Metric.DOT)
    with open_sink(f"faiss:{OUT / 'reference.faiss'}", spec) as sink:
        sink.write(VectorBatch(np.arange(len(documents)), vectors))
        sink.finish()


def main() -> None:
    documents, vectors = fresh_folder()
    build_old_index(vectors)
    build_old_collection(documents, vectors)
    source, target = f"faiss:{OUT}/old.faiss", f"faiss:{OUT}/new.faiss"
    step("Anchors: 2,000 glosses re-embedded with all-MiniLM-L6-v2")
    anchors, translator = str(OUT / "anchors.parquet"), str(OUT / "translator.safetensors")
    vecmigrate(
        "anchors", source, "--source-encoder", OLD, "--encoder", NEW, "--size", "2000",
        "--out", anchors,
    )  # fmt: skip

    step("The map from the old space to the new one")
    vecmigrate("fit", "--anchors", anchors, "--vectors-only", "--out", translator)

    step("The new index and the new collection")
    collections = (source, target), (f"qdrant:{OUT}/qdrant/old", f"qdrant:{OUT}/qdrant/new")
    for old, new in collections:
        vecmigrate("migrate", old, new, "--translator", translator, "--source-encoder", OLD)

    step("What it cost: old, translated and fully re-embedded side by side")
    print("(re-embedding the other glosses too, only to know the truth)", flush=True)
    build_reference(documents, load_anchors(anchors))
    for old, new in collections:
        vecmigrate(
            "evaluate", "--source", old, "--target", new,
            "--reference", f"faiss:{OUT}/reference.faiss",
            "--queries", LOG,
            "--source-encoder", OLD_QUERIES, "--target-encoder", NEW,
        )  # fmt: skip


if __name__ == "__main__":
    main()
