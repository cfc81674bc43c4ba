"""Tells which of two streams' points differ, in any order and in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vecmigrate.batches import Payload, VectorBatch, Vectors
from vecmigrate.canonical import canonical_text, same_within
from vecmigrate.id_fingerprint import id_hashes
from vecmigrate.keeping import ORIGIN_FIELD

BUCKETS = 1 << 16
_SHIFT = np.uint64(48)
_MASK = (1 << 64) - 1


class Tally:
    """The sums of the 64-bit hashes of ids, and of payloads with their ids, in 65,536 buckets.

    A point's bucket goes by its id. Two streams with the same points in any order have equal
    sums; where they differ, the buckets that do hold the points to look at, so that a second pass
    need keep only those.

    Attributes
    ----------
    count
        Points taken in.
    ids, contents
        ``(65536,)`` uint64 sums.
    """

    def __init__(self) -> None:
        self.count = 0
        self._vectors = 0
        self.ids = np.zeros(BUCKETS, np.uint64)
        self.contents = np.zeros(BUCKETS, np.uint64)

    def add(self, batch: VectorBatch) -> None:
        """Take in points; where there are no payloads, they count as empty."""
        hashes = id_hashes(batch.ids)
        buckets = bucket_of(hashes)
        self.count += len(batch)
        np.add.at(self.ids, buckets, hashes)
        np.add.at(self.contents, buckets, content_hashes(hashes, batch.payloads))
        rows = vector_hashes(hashes[batch.owners()], batch.vectors)
        self._vectors = (self._vectors + int(rows.sum(dtype=np.uint64))) & _MASK

    def digest(self) -> str:
        """Return a text that two collections share only where all their points are equal."""
        sums = (int(part.sum(dtype=np.uint64)) for part in (self.ids, self.contents))
        return "-".join(f"{n:016x}" for n in (self.count, *sums, self._vectors))


def bucket_of(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return the ``(n,)`` buckets of ``(n,)`` id hashes."""
    return (hashes >> _SHIFT).astype(np.intp)


def content_hashes(
    hashes: NDArray[np.uint64], payloads: Sequence[Payload] | None
) -> NDArray[np.uint64]:
    """Return ``(n,)`` hashes of points' id hashes with their payloads as canonical JSON.

    The field that tells a vector's origin is left out: a source does not have it.
    """
    given: Sequence[Payload] = [{}] * len(hashes) if payloads is None else payloads
    return _hashes_with(hashes, map(_plain, given))


def same_payload(ours: Payload, theirs: Payload, ulps: int) -> bool:
    """Compare two payloads of which :func:`content_hashes` differ, by :func:`same_within`."""
    return same_within(_kept(ours), _kept(theirs), ulps)


def vector_hashes(hashes: NDArray[np.uint64], vectors: Vectors) -> NDArray[np.uint64]:
    """Return ``(n,)`` hashes of points' id hashes with their ``(n, d)`` float32 vectors."""
    return _hashes_with(hashes, map(memoryview, vectors))


def _hashes_with(
    hashes: NDArray[np.uint64], parts: Iterable[bytes | memoryview]
) -> NDArray[np.uint64]:
    """Return ``(n,)`` hashes of id hashes, each with its part."""
    digests = []
    for id_hash, part in zip(hashes.tolist(), parts, strict=True):
        state = hashlib.blake2b(id_hash.to_bytes(8, "little"), digest_size=8)
        state.update(part)
        digests.append(state.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _plain(payload: Payload) -> bytes:
    return canonical_text(_kept(payload)).encode()


def _kept(payload: Payload) -> Payload:
    return {name: value for name, value in payload.items() if name != ORIGIN_FIELD}
