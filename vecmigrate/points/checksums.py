"""Checksums of points' ids, vectors and payloads, in any order and in constant memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.points.batch import IdArray, Payload, VectorBatch, Vectors
from vecmigrate.points.canonical import canonical_text, same_within
from vecmigrate.points.collection import ORIGIN_FIELD

Hashes = NDArray[np.uint64]
"""``(n,)`` 64-bit hashes."""


_MASK = (1 << 64) - 1
_SEED = 0x76656D69
BITS = 64
"""Of a sketch."""


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


BUCKETS = 1 << 16
_SHIFT = np.uint64(48)


class Tally:
    """The sums of the 64-bit hashes of ids, and of payloads with their ids, in 65,536 buckets.

    A point's bucket goes by its id. Two streams with the same points in any order have equal
    sums; if they differ, the buckets that do hold the points to look at, so that a second pass
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
        """Take in points; if there are no payloads, they count as empty."""
        hashes = id_hashes(batch.ids)
        buckets = bucket_of(hashes)
        self.count += len(batch)
        np.add.at(self.ids, buckets, hashes)
        np.add.at(self.contents, buckets, content_hashes(hashes, batch.payloads))
        rows = vector_hashes(hashes[batch.owners()], batch.vectors)
        self._vectors = (self._vectors + int(rows.sum(dtype=np.uint64))) & _MASK

    def joined(self, other: Tally) -> Tally:
        """Return the tally of both's points."""
        both = Tally()
        both.count = self.count + other.count
        both.ids, both.contents = self.ids + other.ids, self.contents + other.contents
        both._vectors = (self._vectors + other._vectors) & _MASK
        return both

    def digest(self) -> str:
        """Return a text that two collections share only if all their points are equal."""
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
    return same_within(without_mark(ours), without_mark(theirs), ulps)


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
    return _joined(digests)


def _plain(payload: Payload) -> bytes:
    return canonical_text(without_mark(payload)).encode()


def without_mark(payload: Payload) -> Payload:
    """Return a payload without the field that tells a vector's origin."""
    if ORIGIN_FIELD not in payload:
        return payload
    # One that knows its bytes is to know them still.
    without = getattr(payload, "without", None)
    if without is not None:
        plain: Payload = without(ORIGIN_FIELD)
        return plain
    return {name: value for name, value in payload.items() if name != ORIGIN_FIELD}


def unmarked(batch: VectorBatch) -> VectorBatch:
    """Return points without the field that tells a vector's origin at one target."""
    payloads = batch.payloads
    if payloads is None or not any(ORIGIN_FIELD in payload for payload in payloads):
        return batch
    return batch.with_payloads([without_mark(payload) for payload in payloads])


IN_PLACE_FORM = "in place"
"""The form of hashes of points that a vector was added to: of the old vector and some fields."""


def source_hashes(batch: VectorBatch) -> NDArray[np.int64]:
    """Return ``(n, 2)`` hashes of points as a source holds them: of vectors, and of payloads.

    What the store keeps beside a vector counts as part of the vector, and the id as part of both.
    A point without a vector has the hash of its id and of what is beside. A mark of its vector's
    origin is left out: the source may be what an earlier migration wrote.
    """
    batch = unmarked(batch)
    ids = id_hashes(batch.ids)
    vectors = ids.copy()
    owners = batch.owners()
    np.add.at(vectors, owners, _mix(ids[owners] ^ row_hashes(batch.vectors)))
    if batch.extras is not None:
        vectors = _mix(vectors ^ _part_hashes(batch.extras))
    payloads = np.full(len(ids), _NO_FIELDS, np.uint64)
    if batch.payloads is not None:
        payloads = _part_hashes(batch.payloads)
    return np.stack([vectors, _mix(ids ^ payloads)], axis=1).view(np.int64)


def payload_hashes(batch: VectorBatch) -> list[int]:
    """Return hashes of points' ids with their payloads, the marks of their origin left out."""
    return signed(content_hashes(id_hashes(batch.ids), batch.payloads))


_ROWS_AT_ONCE = 1024
"""So that what is made of these rows stays in the processor's cache."""


def row_hashes(rows: Vectors) -> Hashes:
    """Return ``(n,)`` hashes of ``(n, d)`` float32 rows, by all of their bits.

    Multilinear hashing (Lemire and Kaser 2014) of 32-bit words by fixed random weights: the sum of
    weight times word, modulo 2**64. Two words are summed in one, and the upper one once more.
    """
    if rows.shape[1] % 2:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    words = rows.view(np.uint64)
    first, second = _weights(words.shape[1])
    sums = np.empty(len(words), np.uint64)
    for start in range(0, len(words), _ROWS_AT_ONCE):
        some = words[start : start + _ROWS_AT_ONCE]
        sums[start : start + _ROWS_AT_ONCE] = np.einsum("ij,j->i", some, first) + np.einsum(
            "ij,j->i", some >> np.uint64(32), second
        )
    return sums


@lru_cache(maxsize=8)
def _weights(width: int) -> NDArray[np.uint64]:
    # The numbers of a bit generator are the same in all versions of NumPy.
    drawn: NDArray[np.uint64] = np.random.PCG64(_SEED).random_raw(2 * width)
    return drawn.reshape(width, 2).T.copy()


def _part_hashes(parts: Sequence[Payload]) -> Hashes:
    """Return ``(n,)`` hashes of payloads or extras, whatever the order of their keys."""
    return _joined(map(_part_digest, parts))


def _part_digest(part: Payload) -> bytes:
    # A payload that is read when it is looked into may know its bytes without that.
    known = getattr(part, "canonical_bytes", None)
    text = canonical_text(part).encode() if known is None else known()
    return hashlib.blake2b(text, digest_size=8).digest()


def _joined(digests: Iterable[bytes]) -> Hashes:
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


_NO_FIELDS = _part_hashes([{}])[0]


def sketches(vectors: Vectors) -> NDArray[np.int64]:
    """Return ``(n,)`` sketches of ``(n, d)`` vectors, which a store's rounding hardly changes.

    A bit tells which of two components is the larger: SimHash (Charikar 2002) by differences of
    components. Vectors at an angle of a differ in about a/pi of the bits; of fewer than 12
    components, there are fewer pairs than bits.
    """
    left, right = _pairs(vectors.shape[1])
    larger = vectors[:, left] > vectors[:, right]
    bits = np.zeros((len(vectors), BITS), np.bool_)
    bits[:, : larger.shape[1]] = larger
    return np.packbits(bits, axis=1).view(np.int64).reshape(-1)


@lru_cache(maxsize=8)
def _pairs(dimension: int) -> tuple[Any, Any]:
    if dimension >= 2 * BITS:
        return slice(0, BITS), slice(BITS, 2 * BITS)
    left, right = np.triu_indices(dimension, 1)
    drawn = np.random.PCG64(_SEED).random_raw(len(left))
    chosen = np.argsort(drawn, kind="stable")[:BITS]
    return left[chosen], right[chosen]


def sketch_tolerance(rounding: float) -> int:
    """Return in how many bits the sketches of a vector and of what a store keeps of it may differ.

    Parameters
    ----------
    rounding
        How far the store's vector may lie from what was written, relative to its length.
    """
    share = math.asin(min(rounding, 1.0)) / math.pi
    return 1 + math.ceil(BITS * share + 4 * math.sqrt(BITS * share * (1 - share)))


def target_hashes(batch: VectorBatch) -> list[int]:
    """Return hashes of the vectors that a target holds, 0 for a point without one."""
    if batch.counts is None:
        return signed(vector_hashes(id_hashes(batch.ids), batch.vectors))
    hashed = iter(target_hashes(batch.with_one_vector()))
    return [next(hashed) if count else 0 for count in batch.counts.tolist()]


def signed(hashes: Hashes) -> list[int]:
    """Return hashes as SQLite keeps integers."""
    listed: list[int] = np.ascontiguousarray(hashes).view(np.int64).tolist()
    return listed
