"""Tells whether two streams hold the same ids, in any order and in constant memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.batches import IdArray

_MASK = (1 << 64) - 1


@dataclass(slots=True)
class IdFingerprint:
    """The count of ids and the sum of their 64-bit hashes.

    Equal multisets are equal; different ones are equal by chance once in 2**64.
    """

    count: int = 0
    total: int = 0

    def add(self, ids: IdArray) -> None:
        """Take in ``(n,)`` ids."""
        self.count += len(ids)
        self.total = (self.total + int(id_hashes(ids).sum(dtype=np.uint64))) & _MASK

    def join(self, other: IdFingerprint) -> None:
        """Take in what another one has taken in."""
        self.count += other.count
        self.total = (self.total + other.total) & _MASK


def id_hashes(ids: IdArray) -> NDArray[np.uint64]:
    """Return ``(n,)`` 64-bit hashes of ``(n,)`` ids; an integer's is the same in either dtype."""
    if ids.dtype == np.int64:
        return _mix(np.ascontiguousarray(ids).view(np.uint64))
    return np.fromiter(map(_hash_one, ids.tolist()), np.uint64, len(ids))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hash_one(point_id: int | str) -> int:
    if isinstance(point_id, str):
        return int.from_bytes(hashlib.blake2b(point_id.encode(), digest_size=8).digest(), "little")
    return int(_mix(np.array([point_id & _MASK], dtype=np.uint64))[0])
