"""Ranges of ids that processes read apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vecmigrate.connector import PointId, UsageError
from vecmigrate_qdrant.ids import id_of_json
from vecmigrate_qdrant.points import ShardKey


@dataclass(frozen=True, slots=True)
class Partition:
    """A range of ids, under one shard key if there are such.

    Attributes
    ----------
    first, stop
        The first id, and that with which the next range begins; None after the last one.
    """

    first: PointId
    stop: PointId | None
    key: ShardKey | None = None


def partition_tokens(
    firsts: Iterable[PointId], batches: int, key: ShardKey | None
) -> Iterator[str]:
    """Yield partitions of about ``batches`` batches, given the first id of each batch.

    A batch begins a partition by what its first id is, not by its number, so that the same
    partitions are found again from a batch in the middle, without reading the ids before it.
    """
    start: PointId | None = None
    for first in firsts:
        if start is None:
            start = first
        elif _begins_partition(first, batches):
            yield _token(start, first, key)
            start = first
    if start is not None:
        yield _token(start, None, key)


def read_token(token: str, where: str, *, keyed: bool) -> Partition:
    """Return the partition that a token names.

    Parameters
    ----------
    keyed
        True if the collection has shard keys, one of which the token then names.

    Raises
    ------
    UsageError
        If the token names none.
    """
    try:
        first, stop, *rest = json.loads(token)
    except (ValueError, TypeError):
        first, stop, rest = None, None, []
    begins, ends = id_of_json(first), id_of_json(stop)
    if begins is None or (ends is None and stop is not None) or len(rest) != keyed:
        raise UsageError(
            f"{token!r} is no partition of {where}",
            remedy="Use the tokens that its partitions() gives.",
        )
    return Partition(begins, ends, rest[0] if keyed else None)


def _token(first: PointId, stop: PointId | None, key: ShardKey | None) -> str:
    return json.dumps([first, stop] if key is None else [first, stop, key])


def _begins_partition(first: PointId, batches: int) -> bool:
    digest = hashlib.blake2b(str(first).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % batches == 0
