"""A worker of the test runner that dies ends the run, with the name of its test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

DIES = "import os\ndef test_before(): pass\ndef test_dies(): os.abort()\n"
DIES_WHEN_IMPORTED = "import os\nos.abort()\n"
NEVER_ENDS = "import threading\ndef test_never_ends(): threading.Event().wait()\n"


@pytest.mark.parametrize(
    ("files", "told"), [([DIES, NEVER_ENDS], "test_0.py::test_dies"), ([DIES_WHEN_IMPORTED], "gw0")]
)
def test_a_dead_worker_ends_the_run(files: list[str], told: str, tmp_path: Path) -> None:
    shutil.copy(TESTS / "conftest.py", tmp_path)
    for number, text in enumerate(files):
        (tmp_path / f"test_{number}.py").write_text(text)
    command = [
        sys.executable, "-m", "pytest", "-c", str(TESTS.parent / "pyproject.toml"),
        "--rootdir", str(tmp_path), "-n", str(len(files)), "--dist", "loadfile", str(tmp_path),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment["PYTHONPATH"] = str(TESTS)
    # Without the hook in conftest.py it never ends.
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert told in ended.stdout.splitlines()[-1]
