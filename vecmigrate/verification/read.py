"""The one pass over the old collection, and the one over the new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector.source import Source
from vecmigrate.migration.dead_letters import DeadLetters, without
from vecmigrate.migration.reembed import OnMissingText
from vecmigrate.points.batch import PointId, VectorBatch, Vectors, row_norms
from vecmigrate.points.checksums import Tally
from vecmigrate.points.screening import Absent, OnBadVector, Skipped, screen
from vecmigrate.runtime.threads import prefetch
from vecmigrate.verification.index import IndexQueries
from vecmigrate.verification.options import PROBES, Progress, VerifyOptions
from vecmigrate.verification.pending import Pending
from vecmigrate.verification.vectors import OtherVectors, Retranslation


@dataclass(slots=True)
class SourcePass:
    """Reads the old collection: tallies its points and compares those of the sample.

    Attributes
    ----------
    letters
        Points that the target's store refused, which are not looked for.
    pending
        Tells which points the source changed since; None if nobody knows.
    tally, skipped
        What was read, and what was left out for a bad vector, as the migration did.
    everything
        Of all that was read and is not pending, also what others wrote or deleted at the target.
    probes
        Some points of the sample, with the vectors that the new collection has for them.
    """

    tally: Tally = field(default_factory=Tally)
    everything: Tally = field(init=False)
    skipped: Skipped = field(default_factory=Skipped)
    letters: DeadLetters | None = None
    pending: Pending | None = None
    probes: IndexQueries = field(
        default_factory=lambda: IndexQueries(np.empty((0, 1), np.float32), ())
    )

    def run(
        self,
        source: Source,
        compared: Retranslation,
        others: OtherVectors,
        asked: VerifyOptions,
        progress: Progress,
    ) -> None:
        """Read all of ``source``; raises what :func:`screened` and the store raise."""
        description = source.describe()
        count = description.count
        if not description.multivector:
            count -= description.without_vector
        sample, probes = _draw(count, asked)
        if description.multivector:
            # A search by several vectors at once is the store's own.
            probes = probes[:0]
        vectors: list[Vectors] = []
        own: list[PointId] = []
        start = 0
        whole = others.wanted or self.pending is not None
        read = read_points(source, asked.batch_size, extras=whole)
        batches: Iterator[VectorBatch] = prefetch(without(self.letters, read))
        batches = with_texts(batches, source, asked, self.skipped)
        if self.pending is not None:
            field = description.text_field if asked.encoder is not None else None
            batches = self.pending.as_read(batches, description.uri, field)
        for batch in screened(batches, source, asked.on_bad_vector, self.skipped):
            self.tally.add(batch)
            rows = None if sample is None else _within(sample, start, len(batch))
            wanted = batch if rows is None else batch.take(rows)
            if len(wanted):
                found = compared.compare(wanted)
                others.compare(wanted, found)
                probing = set(batch.ids[_within(probes, start, len(batch))].tolist())
                mine = [row for row, i in enumerate(found.ids.tolist()) if i in probing]
                vectors.append(found.vectors[mine])
                own += found.ids[mine].tolist()
            start += len(batch)
            progress(len(batch))
        self.everything = self.tally
        if self.pending is not None:
            self.pending.all_read()
            self.everything = self.tally.joined(self.pending.passed_by)
        if own:
            self.probes = _usable(np.concatenate(vectors), own)


def target_pass(
    target: Source, tally: Tally, pending: Pending | None, batch_size: int, progress: Progress
) -> Iterator[VectorBatch]:
    """Yield the new collection's vectors in batches, tallying their points."""
    for batch in settled(pending, prefetch(read_points(target, batch_size))):
        tally.add(batch)
        progress(len(batch))
        yield batch if batch.counts is None else batch.one_row_each()


def usable_again(
    source: Source,
    asked: VerifyOptions,
    letters: DeadLetters | None,
    pending: Pending | None,
    payloads: bool,
) -> Iterator[VectorBatch]:
    """Yield the old collection's usable batches a second time."""
    payloads = payloads or asked.on_missing_text is OnMissingText.SKIP
    batches = without(letters, read_points(source, asked.batch_size, payloads=payloads))
    batches = with_texts(batches, source, asked, Skipped())
    yield from screened(settled(pending, batches), source, asked.on_bad_vector, Skipped())


def with_texts(
    batches: Iterator[VectorBatch], source: Source, asked: VerifyOptions, skipped: Skipped
) -> Iterator[VectorBatch]:
    """Yield the points that have a text, if the migration left out those that have none."""
    field = source.describe().text_field
    for batch in batches:
        texts = batch.texts(field)
        if asked.on_missing_text is not OnMissingText.SKIP or texts is None:
            yield batch
            continue
        there = np.array([text is not None for text in texts], np.bool_)
        skipped.ids += batch.ids[~there].tolist()
        if there.any():
            yield batch.take(there)


def settled(pending: Pending | None, batches: Iterator[VectorBatch]) -> Iterator[VectorBatch]:
    """Yield the points that are not pending; all if nobody knows."""
    return batches if pending is None else pending.settled(batches)


def _draw(count: int, asked: VerifyOptions) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return sorted positions of the sample (None for all) and of the probes among them.

    If the sample is all of ``count``, or more, it is None as well: it may be counted too few.
    """
    rng = np.random.default_rng(asked.seed)
    size = min(count, asked.drawn or PROBES)
    drawn = rng.choice(count, size, replace=False) if count else np.empty(0, np.int64)
    probes = np.sort(drawn[:PROBES])
    every = asked.drawn is None or asked.drawn >= count
    return (None if every else np.sort(drawn)), probes


def _within(positions: NDArray[np.int64], start: int, length: int) -> NDArray[np.intp]:
    low, high = np.searchsorted(positions, [start, start + length])
    return positions[low:high] - start


def _usable(vectors: Vectors, own: list[PointId]) -> IndexQueries:
    # A NaN or zero vector has no neighbours; that it is there is told by its own check.
    norms = row_norms(vectors)
    rows = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    return IndexQueries(np.ascontiguousarray(vectors[rows]), tuple(own[row] for row in rows))


def read_points(
    source: Source, batch_size: int, *, payloads: bool = True, extras: bool = False
) -> Iterator[VectorBatch]:
    """Yield a collection's points that have a vector; all, if points have several each.

    Parameters
    ----------
    extras
        What the store keeps beside them too.
    """
    if source.describe().multivector:
        return source.whole_batches(batch_size)
    if extras:
        return (batch.with_one_vector() for batch in source.whole_batches(batch_size))
    return source.batches(batch_size, payloads=payloads)


def screened(
    batches: Iterable[VectorBatch], source: Source, policy: OnBadVector, skipped: Skipped
) -> Iterator[VectorBatch]:
    """Screen what :func:`read_points` yields as the migration did; raises as :func:`screen`."""
    described = source.describe()
    absent = Absent.WRITTEN if described.multivector else Absent.BAD
    return screen(batches, described.uri, policy, skipped, absent=absent)
