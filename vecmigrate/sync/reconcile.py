"""Decides of each point that arrived or changed whether and how the target is to have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.source import Source, fetch_existing, fetch_there, rows_by_id
from vecmigrate.evaluation.search import distances
from vecmigrate.points.batch import IdArray, Payload, PointId, VectorBatch, Vectors, id_array
from vecmigrate.points.checksums import (
    payload_hashes,
    same_payload,
    source_hashes,
    unmarked,
)
from vecmigrate.points.collection import ENCODED, ORIGIN_FIELD, TRANSLATED, Metric
from vecmigrate.state.ledger import HeldVectors, Ledger, LedgerRow, Origin
from vecmigrate.sync.changes import mark_of
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
        Points of ours that need no writing.
    foreign
        Those that are another's.
    fresh
        Mask of those to write whose vector is a translation that the target does not have.
    is_new
        Mask of those to write that are not there yet.
    native
        How many of those to write have a vector that the encoder has just made.
    """

    writes: VectorBatch | None
    intended: list[LedgerRow]
    settled: list[LedgerRow]
    foreign: list[LedgerRow]
    fresh: NDArray[np.bool_]
    is_new: NDArray[np.bool_]
    native: int = 0

    @property
    def new(self) -> int:
        """How many of those to write are not there yet."""
        return int(self.is_new.sum())

    def without(self, rows: NDArray[np.bool_]) -> Judged:
        """Return the same without some of those to write."""
        stay = ~rows
        writes = None if self.writes is None or not stay.any() else self.writes.take(stay)
        intended = [row for row, stays in zip(self.intended, stay.tolist(), strict=True) if stays]
        return Judged(
            writes, intended, self.settled, self.foreign, self.fresh[stay], self.is_new[stay]
        )


class Draft:
    """A batch that is being judged: each point is to be written until it is settled.

    Attributes
    ----------
    vectors, fields
        ``(n, d)`` vectors and the payloads that the target is to have.
    entries, known
        What the ledger is to say of each point, and what it says now.
    there
        ``(n,)`` mask of the points that the target holds.
    stays_translated
        ``(n,)`` mask of those whose vector there is the translation, and whose text is the same.
    """

    def __init__(
        self,
        batch: VectorBatch,
        vectors: Vectors,
        fields: list[Payload],
        entries: list[LedgerRow],
        known: list[LedgerRow | None],
    ) -> None:
        self.batch, self.vectors, self.fields = batch, vectors, fields
        self.entries, self.known = entries, known
        self.there = np.zeros(len(batch), np.bool_)
        self.stays_translated = np.zeros(len(batch), np.bool_)
        self._settled: list[LedgerRow] = []
        self._foreign: list[LedgerRow] = []
        self._write = np.ones(len(batch), dtype=np.bool_)
        self._copied = False

    def settle(self, row: int, held: HeldVectors, at: int) -> None:
        """Leave a point as the target holds it."""
        self._leave(row, held, at, self._settled)

    def leave(self, row: int, held: HeldVectors, at: int) -> None:
        """Leave another's point as it is."""
        self.entries[row].origin = Origin.FOREIGN
        self._leave(row, held, at, self._foreign)

    def _leave(self, row: int, held: HeldVectors, at: int, among: list[LedgerRow]) -> None:
        held.note(self.entries[row], at)
        among.append(self.entries[row])
        self._write[row] = False

    def keep(self, row: int, vector: Vectors, payload: Payload) -> None:
        """Keep the true vector that the target has for a point."""
        if not self._copied:
            self.vectors, self._copied = self.vectors.copy(), True
        self.vectors[row] = vector
        self.entries[row].origin = Origin.ENCODED
        self.fields[row] = {**payload, ORIGIN_FIELD: ENCODED}

    def pass_over(self, row: int) -> None:
        """Neither write a point nor know it."""
        self._write[row] = False

    def judged(self) -> Judged:
        """Return what is left to write."""
        rows = np.flatnonzero(self._write)
        if not len(rows):
            none = np.zeros(0, np.bool_)
            return Judged(None, [], self._settled, self._foreign, none, none)
        has_payloads = self.batch.payloads is not None or any(self.fields)
        whole = self.batch.with_vectors(self.vectors)
        writes = whole.with_payloads(self.fields if has_payloads else None).take(rows)
        intended = [self.entries[row] for row in rows]
        note_payloads(writes, intended)
        translated = np.array([row.origin is Origin.TRANSLATED for row in intended], np.bool_)
        fresh = translated & ~self.stays_translated[rows]
        return Judged(writes, intended, self._settled, self._foreign, fresh, ~self.there[rows])


class Judge:
    """Knows the translator and the target.

    Parameters
    ----------
    translator
        None if the target's vectors are all an encoder's own: what is to be written then has no
        vector yet.
    keeper
        Puts translated vectors on the scale of true ones, if the migration did.
    marks
        True where points are to say where their vectors come from.
    overwrite
        Take all points for older translations, which are written anew.
    shared
        Others write to the target, perhaps at this moment: what they delete does not come back, and
        a payload that they gave to a point of ours stays.
    tells_payloads
        See :meth:`Ledger.tells_payloads`.
    in_place
        True if the target's points are the source's own, whose texts tell nothing of what the
        target's vectors were made from.
    """

    def __init__(
        self,
        translator: Translator | None,
        keeper: AnchorKeeper | None,
        target: Source,
        ledger: Ledger,
        text_field: str | None,
        *,
        marks: bool,
        overwrite: bool,
        shared: bool,
        tells_payloads: bool,
        in_place: bool = False,
    ) -> None:
        self._translator = translator
        self._keeper = keeper
        self._target = target
        self._ledger = ledger
        self._text_field = text_field
        self._marks = marks
        self._overwrite = overwrite
        self._shared = shared and not in_place
        self._tells_payloads = self._shared and tells_payloads
        self._in_place = in_place
        self._cosine = target.describe().metric is Metric.COSINE
        self._ulps = target.payload_ulps()

    def judge(self, batch: VectorBatch) -> Judged:
        """Judge usable points of the source."""
        draft = self._draft(batch)
        there = self._ledger.there(batch.ids)
        # Others may have written a point since the target's ids were read.
        here = batch.ids if self._shared else batch.ids[there]
        interrupted = self._ledger.interrupted(here) if len(here) else {}
        gone = set(batch.ids[there].tolist()) if self._shared else set()
        for found in fetch_existing(self._target, here):
            self._compare(draft, found, interrupted)
            gone -= set(found.ids.tolist())
        if gone:
            gone -= self._bare_of_ours(draft, id_array(gone), interrupted)
        for row in rows_by_id(batch, id_array(gone)).tolist() if gone else ():
            draft.pass_over(row)
        return draft.judged()

    def _bare_of_ours(
        self, draft: Draft, ids: IdArray, interrupted: dict[PointId, int | None]
    ) -> set[PointId]:
        """Return which of these points the target still has without a vector, as we wrote them."""
        ours: set[PointId] = set()
        for found in fetch_there(self._target, ids):
            held = HeldVectors(found, self._target.rounding(), ulps=self._ulps)
            rows = rows_by_id(draft.batch, found.ids).tolist()
            for at, (point, row) in enumerate(zip(found.ids.tolist(), rows, strict=True)):
                written = held.is_as_written(interrupted, at)
                if not held.hashes[at] and (written or held.are_ours(draft.known[row], at)):
                    ours.add(point)
                    draft.there[row] = True
        return ours

    def expected_rows(self, batch: VectorBatch) -> list[LedgerRow]:
        """Return what the ledger would say of points if they were written now."""
        return self._draft(batch).entries

    def _draft(self, batch: VectorBatch) -> Draft:
        """Return the points as a target that has none of them would get them."""
        expected, variances = self._expected(batch)
        hashes = source_hashes(batch).tolist()
        texts = batch.texts(self._text_field) or [None] * len(batch)
        fields: list[Payload] = list(expected.each_payload())
        entries = [
            LedgerRow(i, v, p, self._expected_origin(field), variance, text is not None)
            for i, (v, p), field, variance, text in zip(
                batch.ids.tolist(), hashes, fields, variances, texts, strict=True
            )
        ]
        known = self._ledger.entries(batch.ids)
        return Draft(batch, expected.vectors, fields, entries, known)

    def _compare(
        self, draft: Draft, found: VectorBatch, interrupted: dict[PointId, int | None]
    ) -> None:
        """Compare points that the target holds with what it should hold."""
        rows = rows_by_id(draft.batch, found.ids)
        draft.there[rows] = True
        same = self._same(draft.vectors[rows], found.vectors)
        held = HeldVectors(
            found, self._target.rounding(), payloads=self._tells_payloads, ulps=self._ulps
        )
        texts = draft.batch.texts(self._text_field) or [None] * len(draft.batch)
        texts_there = found.texts(self._text_field) or [None] * len(found)
        payloads, given = found.each_payload(), list(draft.batch.each_payload())
        for at, row in enumerate(rows.tolist()):
            entry, before, payload = draft.entries[row], draft.known[row], payloads[at]
            draft.stays_translated[row] = bool(same[at]) and texts[row] == texts_there[at]
            written = (self._in_place and entry.id in interrupted) or held.is_as_written(
                interrupted, at
            )
            as_known = held.are_as(before, at)
            ours = self._ours(before, as_known, bool(same[at]) or written, mark_of(payload))
            if as_known and not written and held.has_another_payload(before, at):
                # Others gave it to a point whose vector is ours.
                draft.fields[row] = given[row] = payload
            if ours is None:
                draft.leave(row, held, at)
                continue
            kept = ours is Origin.ENCODED and self._same_text(
                texts[row], texts_there[at], entry, before
            )
            if kept:
                draft.keep(row, found.vectors[at], given[row])
            if (
                (kept or same[at])
                and same_payload(given[row], payload, self._ulps)
                and same_extras(draft.batch, row, found, at)
            ):
                draft.settle(row, held, at)

    def _same_text(
        self, now: str | None, then: str | None, entry: LedgerRow, before: LedgerRow | None
    ) -> bool:
        """Tell whether a true vector still is that of its point."""
        if self._in_place:
            # Beside the vector that is compared the source's text is the only field that counts.
            natives = self._translator is None and before is not None
            return natives and before is not None and before.payload == entry.payload
        if now is not None or then is not None:
            return now == then
        return before is None or before.vector == entry.vector

    def _expected_origin(self, payload: Payload) -> Origin:
        # Without a translator nothing has written a mark into a payload of the source.
        return Origin.TRANSLATED if self._translator is None else _origin(mark_of(payload))

    def _same(self, expected: Vectors, found: Vectors) -> NDArray[np.bool_]:
        """Tell which vectors at the target are the translations."""
        if self._translator is None:
            return np.zeros(len(found), np.bool_)
        least = self._translator.tolerance
        allowed = allowed_of(self._target, expected, cosine=self._cosine, least=least)
        same: NDArray[np.bool_] = distances(expected, found, cosine=self._cosine) <= allowed
        return same

    def _expected(self, batch: VectorBatch) -> tuple[VectorBatch, list[float | None]]:
        """Return the points as they should be at the target, and their variances if told."""
        if self._translator is None:
            none = np.zeros((len(batch), self._target.describe().dimension), np.float32)
            return unmarked(batch).with_vectors(none), [None] * len(batch)
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
            return done.with_payloads(marked), variances
        return unmarked(done), variances

    def _ours(
        self, before: LedgerRow | None, as_known: bool, sure: bool, mark: str | None
    ) -> Origin | None:
        """Return the origin of a point of the target that is ours, None for another's."""
        if before is not None and as_known:
            if before.origin is not Origin.FOREIGN:
                return before.origin
            return _origin(mark) if self._overwrite else None
        if sure or self._overwrite or (before is None and mark is not None):
            return _origin(mark)
        return None


def same_extras(batch: VectorBatch, row: int, found: VectorBatch, at: int) -> bool:
    """Tell whether two points have the same beside their vector, if both stores know of that."""
    # A target that has none has no place for them.
    return (
        batch.extras is None or found.extras is None or alike(batch.extras[row], found.extras[at])
    )


def note_payloads(writes: VectorBatch, entries: list[LedgerRow]) -> None:
    """Note in the entries which payloads are written, to know them when they are read back."""
    for entry, payload in zip(entries, payload_hashes(writes), strict=True):
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
        held = HeldVectors(found, target.rounding())
        rows = zip(found.ids.tolist(), payload_hashes(found), found.each_payload(), strict=True)
        for at, (point_id, digest, payload) in enumerate(rows):
            entry = by_id[point_id]
            same = entry.wrote == digest or (
                point_id in wrote and same_payload(wrote[point_id], payload, ulps)
            )
            bare = entry.origin is Origin.BARE
            if (in_place or same) and bare == (held.hashes[at] == 0):
                held.note(entry, at)
                good.append(entry)
    return good


def _origin(mark: str | None) -> Origin:
    return Origin.ENCODED if mark == ENCODED else Origin.TRANSLATED
