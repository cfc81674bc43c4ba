"""Which points of a mixed target get the new encoder's own vectors: the most valuable."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.encoders.metered import FoundVectors, text_keys
from vecmigrate.errors import UsageError
from vecmigrate.evaluation.search import exact_search
from vecmigrate.migration.bought import read_all
from vecmigrate.migration.translate import Translation
from vecmigrate.points.batch import VectorBatch, Vectors, normalize_rows
from vecmigrate.points.checksums import id_hashes
from vecmigrate.points.collection import Metric
from vecmigrate.runtime.threads import blas_threads, map_in_parallel, one_thread_a_product

NEAREST = 10
"""A query's results among which a point is worth more."""

_QUANTUM = 1e-4
"""Worths that differ by less are the same: a product's rounding must not tell them apart."""

_RECALL = re.compile(r"recall *= *(0?\.\d+|0|1|1\.0*)")
_FORM = re.compile(r"(\d[\d_,]*|\d+\.\d+) *(%?)")


class Order(StrEnum):
    """Which points are worth the most."""

    UNCERTAINTY = "uncertainty"
    TRAFFIC = "traffic"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class NativeShare:
    """How many points are to have the new encoder's own vectors: a number, or a share of all.

    Attributes
    ----------
    recall
        What a share is to reach that is still to be found.
    """

    points: int | None = None
    share: float | None = None
    recall: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``5000``, ``20%`` or ``recall=0.9``.

        Raises
        ------
        UsageError
        """
        if recall := _RECALL.fullmatch(text.strip()):
            return cls(recall=float(recall[1]))
        form = _FORM.fullmatch(text.strip())
        amount = float(re.sub("[_,]", "", form[1])) if form else -1.0
        if form is None or (form[2] and amount > 100) or (not form[2] and "." in form[1]):
            raise UsageError(
                f"{text!r} is not a share of the points",
                remedy="Write a number, as 5000, a share, as 20%, or what it is to reach, as "
                "recall=0.9.",
            )
        return cls(share=amount / 100) if form[2] else cls(points=int(amount))

    def of(self, count: int) -> int:
        """Return how many of ``count`` points that is."""
        wanted = self.points if self.share is None else round(self.share * count)
        return min(wanted or 0, count)

    def __str__(self) -> str:
        if self.recall is not None:
            return f"recall={self.recall:g}"
        return f"{self.points}" if self.share is None else f"{100 * self.share:g}%"


@dataclass(frozen=True)
class Worth:
    """What it is worth to give a point the encoder's own vector.

    Attributes
    ----------
    translation
        What gives points their vectors otherwise. Its variance counts, or, if it tells none, the
        distance to the nearest anchor.
    anchors
        ``(n, d)`` old vectors of the anchors.
    hits
        How many queries have a point among their nearest, by the hash of its id.
    """

    order: Order
    translation: Translation
    anchors: Vectors
    hits: dict[int, int] = field(default_factory=dict)

    def of(self, batch: VectorBatch) -> NDArray[np.float64]:
        """Return the ``(n,)`` worths of points that have a vector each."""
        if self.order is Order.RANDOM:
            return np.zeros(len(batch))
        return self.uncertainty(batch) * self.weights(id_hashes(batch.ids))

    def weights(self, hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return by what queries multiply the ``(n,)`` worths of points, by their ids' hashes."""
        if not self.hits:
            return np.ones(len(hashes))
        return np.array([1.0 + self.hits.get(key, 0) for key in hashes.tolist()])

    def uncertainty(self, batch: VectorBatch) -> NDArray[np.float64]:
        """Return how far each translation may be off, in steps."""
        translator = self.translation.translator
        if translator.tells_variance:
            _, told = translator.transform_with_variance(self.translation.inputs(batch))
            found = told.astype(np.float64)
        else:
            found = 1.0 - (_unit(batch.vectors) @ _unit(self.anchors).T).max(axis=1)
        steps: NDArray[np.float64] = np.round(found / _QUANTUM) * _QUANTUM
        return steps


def _unit(vectors: Vectors) -> Vectors:
    copied = vectors.copy()
    normalize_rows(copied)
    return copied


@dataclass(frozen=True)
class BoughtBefore:
    """Points whose vectors anchors and dry runs have bought: these cost nothing, whatever they are
    worth.

    Attributes
    ----------
    dimension
        Of the vectors.
    """

    found: tuple[FoundVectors, ...]
    text_field: str | None
    dimension: int

    def of(self, batch: VectorBatch) -> NDArray[np.bool_]:
        """Return ``(n,)``: True for those points of a batch."""
        texts = batch.texts(self.text_field) if self.found else None
        if texts is None:
            return np.zeros(len(batch), np.bool_)
        into = np.empty((len(batch), self.dimension), np.float32)
        there = read_all(self.found, text_keys(batch.ids, texts), into)
        return there & np.array([text is not None for text in texts], np.bool_)


@dataclass(frozen=True)
class Choice:
    """The points whose worth is no less than that of the last one that was chosen.

    Points of equal worth are taken by the hash of their ids. Which they are depends on each point
    alone, so that a run that is continued, and a point that changes, are treated alike.

    Attributes
    ----------
    keeper, bought
        Their points are native anyhow.
    least, hash
        Worth and hash of the last one; None if none is chosen.
    """

    worth: Worth
    keeper: AnchorKeeper
    bought: BoughtBefore
    least: float | None
    hash: int

    def chosen(self, batch: VectorBatch) -> NDArray[np.bool_]:
        """Tell which points are to be embedded; those without a vector are not."""
        mask, known = self.bought.of(batch), self.keeper.knows(batch)
        if self.least is None:
            return mask & ~known
        rows = np.flatnonzero(np.array(batch.each_count()) > 0)
        some = batch.take(rows).with_one_vector()
        worths, hashes = self.worth.of(some), id_hashes(some.ids)
        mask[rows] |= (worths > self.least) | ((worths == self.least) & (hashes >= self.hash))
        return mask & ~known

    def told(self) -> str:
        """Return what :meth:`restored` takes."""
        return json.dumps([self.least, self.hash, list(self.worth.hits.items())])

    @classmethod
    def restored(cls, told: str, worth: Worth, keeper: AnchorKeeper, bought: BoughtBefore) -> Self:
        """Return the choice that was told of."""
        least, hashed, hits = json.loads(told)
        counted = Worth(worth.order, worth.translation, worth.anchors, dict(hits))
        return cls(counted, keeper, bought, least, hashed)


def choose(
    batches: Iterable[VectorBatch],
    share: NativeShare,
    worth: Worth,
    keeper: AnchorKeeper,
    bought: BoughtBefore,
    can_be_embedded: Callable[[VectorBatch], NDArray[np.bool_]],
    queries: Vectors | None,
    metric: Metric,
) -> Choice:
    """Choose the points of a source that are worth the most.

    Parameters
    ----------
    batches
        All points that have a usable vector. Memory is 16 bytes a point.
    can_be_embedded
        Tells which points of a batch have a text.
    queries
        ``(n, d)`` of the new encoder, for :attr:`Order.TRAFFIC`; None for the other orders.
    """
    seen = kept = 0
    worths: list[NDArray[np.float64]] = []
    hashes: list[NDArray[np.uint64]] = []

    def looked_at(batch: VectorBatch) -> tuple[VectorBatch, NDArray[np.float64]]:
        return batch, worth.of(batch)

    def noted() -> Iterator[VectorBatch]:
        nonlocal seen, kept
        each = map_in_parallel(looked_at, batches, blas_threads(), name="choose")
        for batch, found in each:
            known = keeper.knows(batch) | bought.of(batch)
            wanted = can_be_embedded(batch) & ~known
            seen, kept = seen + len(batch), kept + int(known.sum())
            worths.append(found[wanted])
            hashes.append(id_hashes(batch.ids)[wanted])
            yield batch

    with one_thread_a_product():
        if queries is None:
            for _ in noted():
                pass
        else:
            found = exact_search(map(worth.translation.convert, noted()), queries, NEAREST, metric)
            hits = Counter(id_hashes(found.reshape(-1)).tolist())
            worth = Worth(worth.order, worth.translation, worth.anchors, dict(hits))
    all_worths, all_hashes = np.concatenate([[], *worths]), np.concatenate([_NONE, *hashes])
    all_worths *= worth.weights(all_hashes)
    count = min(max(share.of(seen) - kept, 0), len(all_worths))
    if not count:
        return Choice(worth, keeper, bought, None, 0)
    last = np.lexsort((all_hashes, all_worths))[-count]
    return Choice(worth, keeper, bought, float(all_worths[last]), int(all_hashes[last]))


_NONE = np.empty(0, np.uint64)
