"""Names an engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from vecmigrate.engines.base import Engine
from vecmigrate.engines.local import LocalEngine
from vecmigrate.errors import UsageError


class EngineName(StrEnum):
    """Where translating is done."""

    LOCAL = "local"
    RAY = "ray"


def open_engine(
    name: EngineName | str,
    *,
    workers: int | None = None,
    address: str | None = None,
    parts: Path | None = None,
) -> Engine:
    """Return an engine; see :class:`RayEngine` for what the others mean.

    Raises
    ------
    UsageError
        Where something is said that the engine has no use for.
    """
    if EngineName(name) is EngineName.RAY:
        from vecmigrate.engines.ray_engine import RayEngine

        return RayEngine(workers=workers, address=address, parts=parts)
    said = {"workers": workers, "Ray's address": address, "parts": parts}
    if unused := [option for option, value in said.items() if value is not None]:
        raise UsageError(
            f"the local engine has no use for: {', '.join(unused)}",
            remedy="Choose the engine ray, or leave that out.",
        )
    return LocalEngine()
