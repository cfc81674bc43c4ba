"""Writes earlier_files.tar.xz: what an earlier vecmigrate left on disk, for later ones to read.

    python tests/data/make_earlier_files.py VECMIGRATE

VECMIGRATE is the command of the earlier version, as ``.venv/bin/vecmigrate`` of a checkout of it.
The state file and the ledgers name collections by absolute paths, and a source is known by the
times of its files: all is made in ROOT, and is to be read there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import faiss
import numpy as np

ROOT = Path("/tmp/vecmigrate-earlier-files")
OUT = Path(__file__).parent / "earlier_files.tar.xz"
N, OLD_DIM, NEW_DIM, TIME = 800, 16, 24, 1_700_000_000
STORES = {
    "faiss": "faiss:{root}/{name}.faiss",
    "parquet": "parquet:{root}/{name}.parquet",
    "npy": "npy:{root}/{name}.npy",
    "lancedb": "lancedb:{root}/db/{name}",
    "qdrant": "qdrant:{root}/storage/{name}",
}
SOURCE = f"faiss:{ROOT}/old.faiss"
KEPT_OPEN = ("--max-rate", "150", "--batch-size", "50", "--checkpoint-seconds", "0")
KILLED_AT = 100


def uri(store: str, name: str) -> str:
    return STORES[store].format(root=ROOT, name=name)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_corpus() -> None:
    rng = np.random.default_rng(0)
    old = unit(rng.standard_normal((N, OLD_DIM)))
    rotation = np.linalg.qr(rng.standard_normal((NEW_DIM, NEW_DIM)))[0][:OLD_DIM]
    np.save(ROOT / "encoded.npy", unit(old @ rotation + 0.02 * rng.standard_normal((N, NEW_DIM))))
    np.save(ROOT / "queries.npy", old[:20])
    index = faiss.IndexFlatIP(OLD_DIM)
    index.add(old)
    faiss.write_index(index, str(ROOT / "old.faiss"))
    with (ROOT / "old.jsonl").open("w") as file:
        for i in range(N):
            file.write(json.dumps({"id": i, "text": f"text number {i}", "group": i % 5}) + "\n")
    for name in ("old.faiss", "old.jsonl"):
        os.utime(ROOT / name, (TIME, TIME))


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def kill_when_begun(program: str, *arguments: str) -> None:
    """Kill a migration as soon as its state file tells of some hundred points."""
    process = subprocess.Popen([program, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    target, deadline = arguments[2], time.monotonic() + 60
    rows = "SELECT job FROM jobs WHERE target = ?"
    while time.monotonic() < deadline and process.poll() is None:
        with sqlite3.connect(ROOT / "state.sqlite") as state:
            found = state.execute(rows, [target]).fetchone()
        if found and json.loads(found[0])["written"] >= KILLED_AT:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (arguments, "was not killed at work")


def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    program = sys.argv[1]
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    os.environ["VECMIGRATE_STATE"] = str(ROOT / "state.sqlite")
    write_corpus()
    new = f"vectors:{ROOT}/encoded.npy?name=new-model"
    run(program, "dry-run", SOURCE, "--encoder", new, "--anchors", "100", "--budget", "700",
        "--out", "report")  # fmt: skip
    run(program, "anchors", SOURCE, "--encoder", new, "--size", "100", "--out", "anchors")
    for method in ("procrustes", "ridge", "kernel-ridge"):
        run(program, "fit", "--anchors", "anchors", "--method", method, "--out", method)
        run(program, "translate", method, "queries.npy", f"{method}.npy")
    translated = ("--translator", str(ROOT / "procrustes"))
    for store in STORES:
        run(program, "migrate", SOURCE, uri(store, "new"), *translated)
        run(program, "verify", SOURCE, uri(store, "new"), *translated)
        if store != "npy":
            run(program, "sync", SOURCE, uri(store, "new"), *translated)
        kill_when_begun(program, "migrate", SOURCE, uri(store, "half"), *translated, *KEPT_OPEN)
    run(program, "migrate", SOURCE, uri("faiss", "next"), *translated)
    run(program, "verify", SOURCE, uri("faiss", "next"), *translated)
    for name in ("new", "next"):
        run(program, "cutover", uri("faiss", "current"), "--to", uri("faiss", name))
    with tarfile.open(OUT, "w:xz") as archive:
        archive.add(ROOT, ".", filter=without_owner)


if __name__ == "__main__":
    main()
