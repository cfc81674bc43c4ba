"""Point ids: Qdrant knows unsigned 64-bit integers and UUIDs, the latter in several spellings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

import numpy as np

from vecmigrate.connector import IdArray, MismatchError, PointId

_HYPHENATED = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_CANONICAL = re.compile(_HYPHENATED)
_SPELLINGS = re.compile(
    rf"[0-9a-f]{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}|urn:uuid:{_HYPHENATED}", re.IGNORECASE
)
_UINT64_MAX = 2**64 - 1


def canonical_id(point_id: PointId) -> PointId | None:
    """Return an id as Qdrant spells it, or None where Qdrant cannot hold it."""
    if isinstance(point_id, str):
        if _CANONICAL.fullmatch(point_id):
            return point_id
        return str(UUID(point_id)) if _SPELLINGS.fullmatch(point_id) else None
    return int(point_id) if 0 <= point_id <= _UINT64_MAX else None


def id_of_json(value: object) -> PointId | None:
    """Return an id that was read from JSON as Qdrant spells it, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return canonical_id(value)


def canonical_ids(ids: Sequence[PointId] | IdArray) -> list[PointId | None]:
    """Return each id as Qdrant spells it, None for those that it cannot hold."""
    # A numpy integer is no int for qdrant-client.
    return [canonical_id(i) for i in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]


def storable_ids(ids: IdArray, target: str) -> list[PointId]:
    """Return the ids as Qdrant is to store them.

    Raises
    ------
    MismatchError
        If Qdrant cannot hold one, naming it.
    """
    if ids.dtype == np.int64 and (ids >= 0).all():
        plain: list[PointId] = ids.tolist()
        return plain
    stored: list[PointId] = []
    for point_id in ids.tolist():
        canonical = canonical_id(point_id)
        if canonical is None:
            raise MismatchError(
                f"{target} cannot hold the id {point_id!r}: Qdrant's ids are integers from 0 to "
                "2^64-1 and UUIDs",
                remedy="Give the source's points such ids (keeping the old ones as a payload "
                "field), or choose a target of another store.",
            )
        stored.append(canonical)
    return stored
