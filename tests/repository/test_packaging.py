"""The wheel works in an empty environment; importing stays light; layers stay apart."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "sentence_transformers", "transformers"}


def python(code: str, *, executable: str = sys.executable, cwd: Path | None = None) -> str:
    return subprocess.run(
        [executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd
    ).stdout


@pytest.mark.parametrize(
    "action",
    [
        "import vecmigrate",
        "from typer.testing import CliRunner; from vecmigrate.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
)
def test_heavy_packages_are_not_loaded(action: str) -> None:
    loaded = json.loads(python(f"{action}\nimport sys, json; print(json.dumps([*sys.modules]))"))
    assert not HEAVY & set(loaded)


def test_importing_loads_little_more_than_numpy() -> None:
    def loaded_by(module: str) -> set[str]:
        names = python(f"import {module}, sys; print(*sys.modules)").split()
        return {name.partition(".")[0] for name in names if not name.startswith("_sysconfigdata")}

    light = {"vecmigrate", "pydantic", "pydantic_core", "safetensors", "threadpoolctl"}
    light |= {"annotated_types", "typing_extensions", "typing_inspection"}
    assert loaded_by("vecmigrate") - loaded_by("numpy") - sys.stdlib_module_names <= light


def imported_modules(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_vecmigrate_never_imports_a_connector() -> None:
    for file in (ROOT / "vecmigrate").rglob("*.py"):
        assert not any(name.startswith("vecmigrate_") for name in imported_modules(file)), file


def test_a_connector_imports_only_the_contract() -> None:
    for file in (ROOT / "connectors").rglob("*.py"):
        ours = {name for name in imported_modules(file) if name.split(".")[0] == "vecmigrate"}
        assert ours <= {"vecmigrate.connector"}, file


def test_the_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    # The dependencies are those of this environment; of the project only the wheel is seen.
    venv.create(tmp_path / "env", with_pip=False)
    executable = tmp_path / "env" / "bin" / "python"
    [site] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True, cwd=tmp_path
    )
    ours = Path(python("import typer; print(typer.__file__)").strip()).parents[1]
    seen = [p for p in ours.iterdir() if "vecmigrate" not in p.name.lower()]
    for path in seen:
        if not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    code = (
        "import vecmigrate;"
        "from vecmigrate.connector.registry import CONNECTORS, load_plugin, plugin_names;"
        "[load_plugin(CONNECTORS, n) for n in plugin_names(CONNECTORS)];"
        "print(vecmigrate.__file__, plugin_names(CONNECTORS))"
    )
    shown = python(code, executable=str(executable), cwd=tmp_path)
    assert str(site) in shown
    assert (
        "['faiss', 'lancedb', 'npy', 'parquet', 'qdrant', 'qdrant-edge', 'qdrant-snapshot']"
        in shown
    )
