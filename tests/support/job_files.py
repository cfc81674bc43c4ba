"""A job file for the corpus of a dry run, and runs of it."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
from click.testing import Result
from typer.testing import CliRunner

from support.dry_run_corpus import DryRunCorpus, N
from vecmigrate.cli import app

JOB = """
[source]
uri = "faiss:old.faiss"

[target]
uri = "{target}"
encoder = "vectors:new.npy?name=new-model"
query_encoder = "vectors:new-queries.npy?name=new-model"

[dry_run]
queries = "log.jsonl"
anchors = 300
budget = 1500
method = "procrustes"

[gates]
"min-recall@10" = {gate}

{more}
"""


def write_job(
    folder: Path, *, gate: float = 0.1, target: str = "faiss:new.faiss", more: str = ""
) -> Path:
    path = folder / "vecmigrate.toml"
    path.write_text(JOB.format(gate=gate, target=target, more=more))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def done_now(job: Path, *arguments: str) -> list[str]:
    """Run a job and name the steps that were done, not passed over."""
    result = call("run", job, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [step["step"] for step in json.loads(result.stdout)["steps"] if step["done_now"]]


def arrive(corpus: DryRunCorpus, count: int = 10, *, encoded: bool = False) -> None:
    """Let the source get points of its own again, under new ids.

    With ``encoded``, the new encoder's vectors of them are there too.
    """
    index = faiss.read_index(str(corpus.folder / "old.faiss"))
    index.add(corpus.old[:count])
    faiss.write_index(index, str(corpus.folder / "old.faiss"))
    with (corpus.folder / "old.jsonl").open("a") as file:
        for i in range(N, N + count):
            file.write(json.dumps({"id": i, "text": f"document {i - N}"}) + "\n")
    if encoded:
        np.save(corpus.folder / "new.npy", np.concatenate([corpus.new, corpus.new[:count]]))
