"""Digests by which a step's result is known to hold still."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

ABSENT = "absent"


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, or ``absent``."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ABSENT


def files_digests(paths: Iterable[Path]) -> dict[str, str]:
    """Return each file's digest by its path."""
    return {str(path): file_digest(path) for path in paths}


def facts_digest(facts: Mapping[str, object]) -> str:
    """Return the SHA-256 of JSON facts, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def changed(before: Mapping[str, str], now: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Say which inputs differ, as ``names`` has them; "" where none does."""
    return ", ".join(said for name, said in names.items() if before.get(name) != now.get(name))
