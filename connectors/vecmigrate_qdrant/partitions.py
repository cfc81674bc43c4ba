"""Ranges of ids that processes read apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from vecmigrate.connector import PointId, UsageError
from vecmigrate_qdrant.ids import id_of_json


def partition_tokens(firsts: Iterable[PointId], batches: int) -> Iterator[str]:
    """Yield partitions of about ``batches`` batches, given the first id of each batch.

    A batch begins a partition by what its first id is, not by its number, so that the same
    partitions are found again from a batch in the middle, without reading the ids before it.
    """
    start: PointId | None = None
    for first in firsts:
        if start is None:
            start = first
        elif _begins_partition(first, batches):
            yield json.dumps([start, first])
            start = first
    if start is not None:
        yield json.dumps([start, None])


def read_token(token: str, where: str) -> tuple[PointId, PointId | None]:
    """Return a partition's first id and that of the next one, None after the last.

    Raises
    ------
    UsageError
    """
    try:
        first, stop = json.loads(token)
    except (ValueError, TypeError):
        first = stop = None
    begins, ends = id_of_json(first), id_of_json(stop)
    if begins is None or (ends is None and stop is not None):
        raise UsageError(
            f"{token!r} is no partition of {where}",
            remedy="Use the tokens that its partitions() gives.",
        )
    return begins, ends


def _begins_partition(first: PointId, batches: int) -> bool:
    digest = hashlib.blake2b(str(first).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % batches == 0
