"""Decides of each point that arrived or changed whether and how the target is to have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.source import Source, fetch_existing, fetch_there, rows_by_id
from vecmigrate.evaluation.search import distances
from vecmigrate.points.batch import Payload, PointId, VectorBatch, id_array
from vecmigrate.points.checksums import (
    content_hashes,
    id_hashes,
    same_payload,
    signed,
    target_hashes,
)
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, TRANSLATED, Metric
from vecmigrate.state.ledger import Ledger, LedgerRow, Origin
from vecmigrate.sync.changes import hashes_of, mark_of
from vecmigrate.translators import Translator
from vecmigrate.verification.vectors import alike, allowed_of


@dataclass(slots=True)
class Judged:
    """What comes of a batch.

    Attributes
    ----------
    writes
        What to write, None for nothing; ``intended`` tells of the same points.
    settled
        Points that need no writing: as they should be already, or another's.
    new
        How many of those to write are not there yet.
    foreign
        How many are another's.
    """

    writes: VectorBatch | None
    intended: list[LedgerRow]
    settled: list[LedgerRow]
    new: int
    foreign: int


class Judge:
    """Knows the translator and the target.

    Parameters
    ----------
    keeper
        Puts translated vectors on the scale of true ones, where the migration did.
    marks
        True where points are to say where their vectors come from.
    adopt
        Take points without a mark for older translations, which are written anew.
    in_place
        True if the target's points are the source's own, whose texts tell nothing of what the
        target's vectors were made from.
    """

    def __init__(
        self,
        translator: Translator,
        keeper: AnchorKeeper | None,
        target: Source,
        ledger: Ledger,
        text_field: str | None,
        *,
        marks: bool,
        adopt: bool,
        in_place: bool = False,
    ) -> None:
        self._translator = translator
        self._keeper = keeper
        self._target = target
        self._ledger = ledger
        self._text_field = text_field
        self._marks = marks
        self._adopt = adopt
        self._in_place = in_place
        self._cosine = target.describe().metric is Metric.COSINE
        self._ulps = target.payload_ulps()

    def judge(self, batch: VectorBatch) -> Judged:
        """Judge usable points of the source."""
        expected, variances = self._expected(batch)
        vectors, payloads = hashes_of(batch)
        texts = batch.texts(self._text_field) or [None] * len(batch)
        given = batch.each_payload()
        fields: list[Payload] = list(expected.each_payload())
        entries = [
            LedgerRow(i, v, p, _origin(mark_of(field)), variance, text is not None)
            for i, v, p, field, variance, text in zip(
                batch.ids.tolist(), vectors, payloads, fields, variances, texts, strict=True
            )
        ]
        made = expected.vectors
        write = np.ones(len(batch), dtype=np.bool_)
        here = np.flatnonzero(self._ledger.there(batch.ids))
        settled: list[LedgerRow] = []
        foreign = there = 0
        known = self._ledger.entries(batch.ids)
        interrupted = self._ledger.interrupted(batch.ids[here]) if len(here) else set()
        for found in fetch_existing(self._target, batch.ids[here]):
            rows = rows_by_id(batch, found.ids)
            there += len(found)
            hashes = target_hashes(found)
            same = distances(made[rows], found.vectors, cosine=self._cosine) <= allowed_of(
                self._target, made[rows], cosine=self._cosine
            )
            holds = _payload_hashes(found)
            theirs = found.texts(self._text_field) or [None] * len(found)
            points = found.each_payload()
            for at, row in enumerate(rows.tolist()):
                entry, before = entries[row], known[row]
                mark = mark_of(points[at])
                ours = self._ours(before, hashes[at], bool(same[at]), mark, entry.id in interrupted)
                if ours is None:
                    entry.origin, entry.target = Origin.FOREIGN, hashes[at]
                    settled.append(entry)
                    write[row] = False
                    foreign += 1
                    continue
                kept = (
                    ours is Origin.ENCODED
                    and not self._in_place
                    and _same_text(texts[row], theirs[at], entry, before)
                )
                if kept:
                    if made is expected.vectors:
                        made = made.copy()
                    made[row] = found.vectors[at]
                    entry.origin = Origin.ENCODED
                    fields[row] = {**given[row], ORIGIN_FIELD: ENCODED}
                # A target that has none has no place for them.
                same_extras = (
                    batch.extras is None
                    or found.extras is None
                    or alike(batch.extras[row], found.extras[at])
                )
                same_fields = holds[at] == entry.payload or same_payload(
                    given[row], points[at], self._ulps
                )
                if (kept or same[at]) and same_fields and same_extras:
                    entry.target = hashes[at]
                    settled.append(entry)
                    write[row] = False
        rows_to_write = np.flatnonzero(write)
        if not len(rows_to_write):
            return Judged(None, [], settled, 0, foreign)
        has_payloads = batch.payloads is not None or any(fields)
        whole = batch.with_vectors(made).with_payloads(fields if has_payloads else None)
        writes = whole.take(rows_to_write)
        intended = [entries[row] for row in rows_to_write]
        note_payloads(writes, intended)
        is_new = len(rows_to_write) - (there - len(settled))
        return Judged(writes, intended, settled, is_new, foreign)

    def _expected(self, batch: VectorBatch) -> tuple[VectorBatch, list[float | None]]:
        """Return the points as they should be at the target, and their variances where told."""
        inputs = self._translator.inputs(batch.vectors, batch.texts(self._text_field))
        variances: list[float | None] = [None] * len(batch)
        if self._translator.tells_variance:
            vectors, told = self._translator.transform_with_variance(inputs)
            variances = told.tolist()
        else:
            vectors = self._translator.transform(inputs)
        done = batch.with_vectors(vectors)
        if self._keeper is not None and self._text_field is not None:
            [done] = self._keeper.apply([done])
            return done, variances
        if self._keeper is not None:
            # Without texts nothing tells whether an anchor's vector is still that of its point.
            done = done.with_vectors(self._keeper.mixed(vectors))
        if self._marks:
            marked = [{**payload, ORIGIN_FIELD: TRANSLATED} for payload in batch.each_payload()]
            done = done.with_payloads(marked)
        return done, variances

    def _ours(
        self, before: LedgerRow | None, target: int, same: bool, mark: str | None, interrupted: bool
    ) -> Origin | None:
        """Return the origin of a point of the target that is ours, None for another's."""
        if before is not None and before.target == target:
            return None if before.origin is Origin.FOREIGN else before.origin
        if same or interrupted or (before is None and (mark is not None or self._adopt)):
            return _origin(mark)
        return None


def note_payloads(writes: VectorBatch, entries: list[LedgerRow]) -> None:
    """Note in the entries which payloads are written, to know them when they are read back."""
    for entry, payload in zip(entries, _payload_hashes(writes), strict=True):
        entry.wrote = payload


def read_back(
    target: Source,
    entries: list[LedgerRow],
    written: VectorBatch | None = None,
    *,
    in_place: bool = False,
) -> list[LedgerRow]:
    """Return the entries of points that the target holds as they were written.

    Each gets the hash of the vector that the target holds.

    Parameters
    ----------
    written
        The points as they were written, by whose values a payload is compared if its hash differs.
    in_place
        True if payloads are not the target's, so that they do not tell what was written.
    """
    by_id = {entry.id: entry for entry in entries}
    ulps = target.payload_ulps() if written is not None else 0
    wrote: dict[PointId, Payload] = {}
    if written is not None and ulps:
        wrote = dict(zip(written.ids.tolist(), written.each_payload(), strict=True))
    good: list[LedgerRow] = []
    for found in fetch_there(target, id_array(by_id)):
        for point_id, vector, digest, payload in zip(
            found.ids.tolist(),
            target_hashes(found),
            _payload_hashes(found),
            found.each_payload(),
            strict=True,
        ):
            entry = by_id[point_id]
            same = entry.wrote == digest or (
                point_id in wrote and same_payload(wrote[point_id], payload, ulps)
            )
            bare = entry.origin is Origin.BARE
            if (in_place or same) and bare == (vector == 0):
                entry.target = vector
                good.append(entry)
    return good


def _payload_hashes(batch: VectorBatch) -> list[int]:
    return signed(content_hashes(id_hashes(batch.ids), batch.payloads))


def _origin(mark: str | None) -> Origin:
    return Origin.ENCODED if mark == ENCODED else Origin.TRANSLATED


def _same_text(
    now: str | None, then: str | None, entry: LedgerRow, before: LedgerRow | None
) -> bool:
    """Tell whether a true vector still is that of its point."""
    if now is not None or then is not None:
        return now == then
    return before is None or before.vector == entry.vector
