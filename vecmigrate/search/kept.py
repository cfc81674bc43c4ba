"""What queries have bought, searched beside the collection until it has that itself."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import VecmigrateError
from vecmigrate.evaluation.search import score_matrix
from vecmigrate.points.batch import PointId, Vectors, row_norms
from vecmigrate.points.collection import Metric

LOOK_SECONDS = 1.0
"""How often it is looked what other processes have bought, and what is kept no longer."""

_SHORTEST = 1e-30
"""Of a vector that is divided by its length."""


class KeptFile(Protocol):
    """Where vectors are kept, by keys of points and their texts; see :func:`text_keys`."""

    def changes(self) -> tuple[int, int]: ...
    def keys(self) -> list[str]: ...
    def bought(
        self, keys: Sequence[str], dimension: int
    ) -> tuple[list[str], list[PointId], Vectors]: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A point whose vector was bought, and how that scores."""

    id: PointId
    key: str
    score: float


class KeptVectors:
    """The vectors of a file of them, in memory; threads share it.

    A collection finds a point by its translated vector, and misses some that a query has embedded
    already. These are few until they are written back, and all of them are compared.
    """

    def __init__(self, file: KeptFile, dimension: int) -> None:
        self._file, self._lock = file, Lock()
        self._rows: dict[str, int] = {}
        self._keys: list[str] = []
        self._ids: list[PointId] = []
        self._vectors: Vectors = np.empty((64, dimension), np.float32)
        self._norms: Vectors = np.empty(64, np.float32)
        self._looked_at, self._changes = -np.inf, (-1, -1)
        self._gone: set[str] = set()

    def add(self, keys: Sequence[str], ids: Sequence[PointId], vectors: Vectors) -> None:
        """Take along what was just bought."""
        with self._lock:
            self._append(keys, ids, vectors)

    def read(self, keys: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        """Fill in the vectors that are here; see :class:`vecmigrate.encoders.FoundVectors`."""
        with self._lock:
            rows = np.array([self._rows.get(key, -1) for key in keys], np.intp)
            here = rows >= 0
            into[here] = self._vectors[rows[here]]
        return here

    def get(self, key: str) -> Vectors | None:
        """Return a ``(d,)`` vector if it is here."""
        with self._lock:
            row = self._rows.get(key)
            return None if row is None else self._vectors[row].copy()

    def better(
        self, query: Vectors, metric: Metric, than: float, without: Set[PointId], most: int
    ) -> list[Kept]:
        """Return what scores better than some score, the best first.

        Parameters
        ----------
        query
            ``(d,)``.
        without
            Points that are not looked for.
        """
        with self._lock:
            self._look()
            keys, ids, count = self._keys, self._ids, len(self._keys)
            vectors, norms = self._vectors[:count], self._norms[:count]
        # Rows are added behind these, and others are taken away from a copy.
        if metric is Metric.COSINE:
            length = max(float(np.linalg.norm(query)), _SHORTEST)
            scores = vectors @ query / (norms * np.float32(length))
        else:
            scores = score_matrix(query[None], vectors, metric)[0]
        rows = np.flatnonzero(scores > than)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        found = (Kept(ids[row], keys[row], float(scores[row])) for row in rows.tolist())
        return [each for each in found if each.id not in without][:most]

    def _append(self, keys: Sequence[str], ids: Sequence[PointId], vectors: Vectors) -> None:
        fresh = [row for row, key in enumerate(keys) if key not in self._rows]
        count, more = len(self._keys), len(fresh)
        if count + more > len(self._vectors):
            room = max(2 * len(self._vectors), count + more)
            for name in ("_vectors", "_norms"):
                old = getattr(self, name)
                grown = np.empty((room, *old.shape[1:]), np.float32)
                grown[:count] = old[:count]
                setattr(self, name, grown)
        self._vectors[count : count + more] = vectors[fresh]
        self._norms[count : count + more] = np.maximum(row_norms(vectors[fresh]), _SHORTEST)
        self._ids.extend(ids[row] for row in fresh)
        self._keys.extend(keys[row] for row in fresh)
        self._rows.update((keys[row], count + at) for at, row in enumerate(fresh))

    def _look(self) -> None:
        """Follow the file now and then: others add to it, and what is written back leaves it."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        try:
            changes = self._file.changes()
            if changes != self._changes or self._gone:
                self._follow(self._file.keys())
                self._changes = changes
        except VecmigrateError:
            # What is here is good; a search that buys tells what is wrong with the file.
            pass
        self._looked_at = time.monotonic()

    def _follow(self, keys: list[str]) -> None:
        """Take along what is new in the file, and let go of what has left it for a while.

        What has just left is in the collection, which readers may still see as it was before.
        """
        there = set(keys)
        gone = self._rows.keys() - there
        if let_go := gone & self._gone:
            rows = [row for row, key in enumerate(self._keys) if key not in let_go]
            self._keys = [self._keys[row] for row in rows]
            self._ids = [self._ids[row] for row in rows]
            self._vectors, self._norms = self._vectors[rows], self._norms[rows]
            self._rows = {key: row for row, key in enumerate(self._keys)}
        self._gone = gone - let_go
        fresh = [key for key in keys if key not in self._rows]
        self._append(*self._file.bought(fresh, self._vectors.shape[1]))
