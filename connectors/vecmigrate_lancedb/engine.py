"""LanceDB itself: loaded when first needed, its failures told as ours."""

from __future__ import annotations

import importlib
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vecmigrate.connector import InputError, MissingDependencyError, told_as
from vecmigrate.connector import writing as writing_to

FAILURES = (ValueError, RuntimeError, OSError)
"""What LanceDB raises for all that can go wrong."""

_WHERE_IN_RUST = re.compile(r",? /\S+\.rs:\d+(:\d+)?$")


def load(module: str = "lancedb") -> Any:
    """Import LanceDB, or a module of it.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    # Else Lance asks, on stderr, whether its statistics are to hold an index's centroids.
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "lancedb":
            raise
        raise MissingDependencyError(
            "a lancedb: collection needs the package lancedb, which is not installed",
            remedy="Run: pip install 'vecmigrate[lancedb]'",
        ) from error


def reason(error: BaseException) -> str:
    """Return LanceDB's message on one line, without the place in its own source."""
    lines = str(error).splitlines() or [type(error).__name__]
    return _WHERE_IN_RUST.sub("", lines[0].strip()).rstrip(".")


def reading(
    what: object, failures: tuple[type[Exception], ...] = FAILURES
) -> AbstractContextManager[None]:
    """Raise what LanceDB cannot read as :class:`InputError`."""
    return told_as(
        InputError,
        f"{what} cannot be read",
        "Check that it is a LanceDB table and that nobody cleans up its versions now.",
        failures,
        reason,
    )


def writing(what: object) -> AbstractContextManager[None]:
    """Raise what LanceDB or the disk refuses as :class:`WriteError`."""
    return writing_to(what, FAILURES, reason)


def open_table(database: Path, name: str) -> Any:
    """Open a table that is there: LanceDB makes the folder of one that is not."""
    return load().connect(str(database)).open_table(name)
