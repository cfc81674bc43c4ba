"""Where translating is done: here, or spread over the workers of a cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from vecmigrate.errors import UsageError
from vecmigrate.migration.engines.base import Conversion, Engine
from vecmigrate.migration.engines.local import LocalEngine

__all__ = ["Conversion", "Engine", "EngineName", "LocalEngine", "open_engine"]


class EngineName(StrEnum):
    """Where translating is done."""

    LOCAL = "local"
    RAY = "ray"


def open_engine(
    name: EngineName | str,
    *,
    workers: int | None = None,
    device: str | None = None,
    address: str | None = None,
    parts: Path | None = None,
) -> Engine:
    """Return an engine; see :class:`LocalEngine` and :class:`RayEngine` for what the others mean.

    Raises
    ------
    UsageError
        If something is said that the engine has no use for.
    """
    name = EngineName(name)
    unused: dict[str, str | Path | None] = {"a device": device}
    if name is EngineName.LOCAL:
        unused = {"Ray's address": address, "parts": parts}
    if said := [option for option, value in unused.items() if value is not None]:
        raise UsageError(
            f"the {name} engine has no use for: {', '.join(said)}",
            remedy=f"Choose another engine than {name}, or leave that out.",
        )
    if name is EngineName.LOCAL:
        return LocalEngine(workers=workers, device=device)
    from vecmigrate.migration.engines.ray import RayEngine

    return RayEngine(workers=workers, address=address, parts=parts)
