"""docs/how-to/contribute.md is followed to the letter, in a copy of the source."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from support.blocks import Block, blocks, prints, shell, steps

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "contribute.md"
COPIED = ("vecmigrate", "connectors", "tests", "docs")
NEW = re.compile(r"[Nn]ew file\s+`([\w/.]+)`:\s*$")
INTO = re.compile(r"[Ii]n\s+`([\w/.]+)`,\s+(above|below)\s+`([^`]+)`:\s*$")
# The copy has no environment of its own.
STAND_INS = {
    ".venv/bin/pytest": "python -m pytest -p no:cacheprovider",
    "make reference": "PYTHONPATH=docs:tests:$PYTHONPATH python -m tools.generate",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source, an old index and vectors of both encoders."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "tests" / "data").symlink_to(ROOT / "tests" / "data")
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    np.save(tmp_path / "old.npy", vectors)
    np.save(tmp_path / "new.npy", vectors @ rng.standard_normal((8, 6)).astype(np.float32))
    index = faiss.IndexFlatL2(8)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "old.faiss"))
    return tmp_path


def write(block: Block, root: Path) -> None:
    """Put a block where the text above it says."""
    if new := NEW.search(block.before):
        path = root / new[1]
        assert not path.exists(), path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code, encoding="utf-8")
        return
    into = INTO.search(block.before)
    assert into, f"the text above says no place: {block.code}"
    path, side, line = root / into[1], into[2], into[3]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    [place] = [number for number, each in enumerate(lines) if line in each]
    lines.insert(place + (side == "below"), block.code)
    path.write_text("".join(lines), encoding="utf-8")


def test_the_page_is_followed_to_the_letter(copy: Path) -> None:
    variables = {"PYTHONPATH": f"{copy}:{copy / 'connectors'}", "COLUMNS": "200"}
    for block in blocks(PAGE, "python", "text", "bash", "console"):
        assert block.reason is None
        if block.language in ("python", "text"):
            write(block, copy)
            continue
        for command, expected in steps(block):
            for said, meant in STAND_INS.items():
                command = command.replace(said, meant)
            output = shell(command, copy, variables)
            assert expected is None or prints(output, expected), f"{command}\n{output}"
    page = (copy / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert "`--max-skipped <int range>`" in page
    assert "least-squares" in page
    assert "`--min-mrr@10 <float range>`" in page
