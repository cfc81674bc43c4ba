"""Ids of collections with custom sharding: unique within a shard key only, so spelled ``KEY/ID``.

``eu/7`` is the point 7 under the key ``eu``. A key that is a number is spelled as it is (``7/5``);
a string key that could be taken for one, or begins with a quotation mark, as JSON (``"7"/5``). What
follows the last slash is the id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import IdArray, MismatchError, PointId
from vecmigrate_qdrant.ids import canonical_id
from vecmigrate_qdrant.points import ShardKey

_NUMBER = re.compile(r"-?\d+")
_WHOLE = re.compile(r"0|[1-9]\d*")


def spell_id(key: ShardKey, point_id: PointId) -> str:
    """Return the one spelling of an id under a key."""
    return f"{_spell_key(key)}/{point_id}"


def spell_ids(key: ShardKey, ids: IdArray) -> IdArray:
    """Return the spellings of ``(n,)`` ids under one key, dtype object."""
    begin = f"{_spell_key(key)}/"
    spelled = np.empty(len(ids), dtype=object)
    spelled[:] = [f"{begin}{i}" for i in ids.tolist()]
    return spelled


def read_spelled(spelled: object) -> tuple[ShardKey, PointId] | None:
    """Return the key and the id of a spelling, or None if it is none."""
    if not isinstance(spelled, str):
        return None
    begin, slash, end = spelled.rpartition("/")
    key = _read_key(begin) if slash else None
    point_id = canonical_id(int(end) if _WHOLE.fullmatch(end) else end)
    return None if key is None or point_id is None else (key, point_id)


def canonical_spelling(spelled: object) -> PointId | None:
    """Return the one spelling of an id under a key, or None if it is none."""
    pair = read_spelled(spelled)
    return None if pair is None else spell_id(*pair)


def by_key(spelled: Iterable[PointId]) -> dict[ShardKey | None, list[PointId]]:
    """Return each key's ids among spellings; what is no spelling is left out."""
    found: dict[ShardKey | None, list[PointId]] = {}
    for key, point_id in filter(None, map(read_spelled, spelled)):
        found.setdefault(key, []).append(point_id)
    return found


def rows_by_key(ids: IdArray, where: str) -> dict[ShardKey, tuple[NDArray[np.intp], list[PointId]]]:
    """Return each key's positions among ``(n,)`` spelled ids, and its ids as Qdrant has them.

    Raises
    ------
    MismatchError
        If an id is no spelling, naming it.
    """
    found: dict[ShardKey, tuple[list[int], list[PointId]]] = {}
    for row, spelled in enumerate(ids.tolist()):
        pair = read_spelled(spelled)
        if pair is None:
            raise MismatchError(
                f"{where} cannot hold the id {spelled!r}: its points are under shard keys, and an "
                "id is spelled KEY/ID",
                remedy="Choose a source with shard keys, or a target without them.",
            )
        rows, plain = found.setdefault(pair[0], ([], []))
        rows.append(row)
        plain.append(pair[1])
    return {key: (np.array(rows, np.intp), plain) for key, (rows, plain) in found.items()}


def _spell_key(key: ShardKey) -> str:
    if isinstance(key, int):
        return str(key)
    return json.dumps(key) if _NUMBER.fullmatch(key) or key.startswith('"') else key


def _read_key(begin: str) -> ShardKey | None:
    if _NUMBER.fullmatch(begin):
        return int(begin)
    if not begin.startswith('"'):
        return begin
    try:
        key = json.loads(begin)
    except ValueError:
        return None
    return key if isinstance(key, str) else None
