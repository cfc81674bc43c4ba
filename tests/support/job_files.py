"""A job file for the corpus of a dry run, and runs of it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

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
