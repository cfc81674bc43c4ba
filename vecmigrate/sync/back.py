"""Keeps the way back open: brings what changed at a new collection to the one that readers had."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecmigrate.anchors import load_anchors
from vecmigrate.connector.addresses import canonical_place, followed_place, followed_uri
from vecmigrate.connector.registry import hold, open_source
from vecmigrate.connector.source import Source, fetch_there
from vecmigrate.cutover.readers import current_entry, readers_have
from vecmigrate.cutover.records import CutoverLog, CutoverRecord
from vecmigrate.encoders import Encoder, open_encoder
from vecmigrate.errors import (
    InputError,
    MismatchError,
    TerminatedError,
    UnreachableError,
    UsageError,
)
from vecmigrate.points.batch import Payload, PointId, VectorBatch, Vectors
from vecmigrate.points.checksums import (
    same_payload,
    source_hashes,
    without_mark,
)
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.ids import name_some
from vecmigrate.points.screening import Skipped, screen
from vecmigrate.runtime.options import Callbacks
from vecmigrate.runtime.threads import prefetch
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock
from vecmigrate.state.ledger import (
    HeldVectors,
    Ledger,
    LedgerRow,
    Origin,
    back_ledger_path,
    ledger_key,
    ledger_path,
    open_ledger,
)
from vecmigrate.state.scan import FoundBy, Way
from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.reconcile import note_payloads
from vecmigrate.sync.write import TargetChanges
from vecmigrate.translators import Translator
from vecmigrate.translators.fit import fit_translator

_METHOD = "ridge"
_GONE = """
SELECT id FROM there WHERE id NOT IN (SELECT id FROM seen)
AND (id IN (SELECT id FROM known) OR id IN (SELECT id FROM points))
"""


def sync_back(
    source: str,
    target: str,
    state: str | Path,
    options: SyncOptions | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], None] = lambda count: None,
    **given: Any,
) -> SyncResult:
    """Bring what applications changed at a new collection after a cutover to the old one.

    Points that arrived or changed there get a vector of the old encoder, or of a map of the other
    direction that is fitted from the migration's anchors; deleted points are deleted. Points that
    the migration wrote, and nobody changed since, are left alone. This is the one command that
    changes what was migrated, and only after a cutover.

    Parameters
    ----------
    source
        What readers have now: the collection, or the name that leads there.
    target
        What they had before.
    state
        The state file of the migration and the cutover.
    options, given
        :class:`SyncOptions`, or fields of it by name: ``encoder`` is the old one, ``keep_anchors``
        the anchors of the map.
    stop, announce, progress
        See :class:`Callbacks`.

    Returns
    -------
    SyncResult
        ``translated`` and ``encoded`` are the points that got a vector by the map, and by the old
        encoder, in all such runs.

    Raises
    ------
    LockedError
        If another run is at work on these.
    MismatchError
        If no recorded cutover led readers from one to the other, the ledger of ``source`` is not
        here, more vanished than ``max_vanished``, or both share their points; nothing was changed.
    UsageError
        If neither an encoder nor anchors are given, and a point needs one of them.
    TerminatedError
        If ``stop`` said so.
    InputError, UnreachableError, WriteError
        From the stores and the encoder.
    """
    asked, state = SyncOptions.given(options, {**given, "back": True}), Path(state)
    with ExitStack() as stack:
        # Held open: embedded storage is loaded anew if nobody else has it open.
        new = stack.enter_context(open_source(source))
        old = stack.enter_context(open_source(target))
        place = followed_uri(source)
        records = stack.enter_context(closing(open_state(state)))
        _way_back(place, new.describe(), target, records)
        locks, what = state.parent / "locks", f"{source} back to {target}"
        for key in (ledger_key(place), f"{ledger_key(target)}-back"):
            stack.enter_context(job_lock(locks, key, what))
        if not asked.dry_run:
            stack.enter_context(hold(target))
        known = stack.enter_context(open_ledger(ledger_path(state, place), keep=False))
        if known.is_new():
            raise MismatchError(
                f"the ledger of {place} is not beside {state}: nothing tells what changed there",
                remedy="Give the --state file that the migration had.",
            )
        mine = stack.enter_context(
            open_ledger(back_ledger_path(state, target), keep=not asked.dry_run)
        )
        callbacks = Callbacks(stop, announce, progress)
        return _Run(new, old, target, known, mine, asked, callbacks).go()


def count_lost(
    name: str,
    state: Path,
    records: sqlite3.Connection,
    *,
    progress: Callable[[int], None] = lambda count: None,
) -> int | None:
    """Count what readers of a name would lose by going back: changes that no run brought back.

    Returns None if that is not known: nothing was recorded of what the new collection held, or it
    cannot be read.

    Raises
    ------
    VecmigrateError
        As :func:`vecmigrate.cutover.roll_back`.
    """
    entry = current_entry(CutoverLog(records), name)
    if entry.previous is None or entry.dropped_at is not None:
        return 0  # Nothing is gone back to.
    try:
        found = sync_back(
            entry.target, entry.previous, state, dry_run=True, max_vanished=1, progress=progress
        )
    except (MismatchError, InputError, UnreachableError):
        # Going back is to be possible whatever has become of the new collection.
        return None
    return found.wrote


def _way_back(
    new: str, described: CollectionDescription, old: str, records: sqlite3.Connection
) -> CutoverRecord:
    """Return the cutover that led readers from one collection to the other.

    Raises
    ------
    MismatchError
        If there is none, or both share their points.
    InputError
        If the old one was dropped.
    """
    here, there, log = canonical_place(new), followed_place(old), CutoverLog(records)
    if described.in_place:
        raise MismatchError(
            f"{new} is on the points of {old} themselves",
            remedy="Let writers give each point both vectors.",
        )
    made_from = described.provenance.source if described.provenance else None
    for entry in log.leading_to(here):
        had = {canonical_place(uri) for uri in (entry.previous, made_from) if uri}
        have = readers_have(log, entry.name)
        if have is None or canonical_place(have) != here or there not in had:
            continue
        if entry.dropped_at is not None:
            raise InputError(
                f"{old} was deleted at {entry.dropped_at}", remedy="Nothing leads back to it."
            )
        return entry
    raise MismatchError(
        f"no recorded cutover has led readers from {old} to {new}",
        remedy="Until a cutover the source is never changed; after it, give the --state file that "
        "it was recorded in.",
    )


@dataclass
class _OldVectors:
    """Makes vectors of the old space."""

    dimension: int
    text_field: str | None
    encoder: Encoder | None
    back: Translator | None
    announce: Callable[[str], None]

    def make(self, batch: VectorBatch) -> tuple[Vectors, list[Origin]]:
        """Return ``(n, d)`` vectors of points of the new space, and how each was made.

        Raises
        ------
        UsageError
            If there is neither an encoder nor a map for a point.
        UnreachableError
            If the encoder does not answer, and there is no map.
        """
        made = np.empty((len(batch), self.dimension), np.float32)
        encoded = self._encode(batch, made)
        rest = np.flatnonzero(~encoded)
        if len(rest):
            if self.back is None:
                some = name_some(batch.ids[rest].tolist())
                raise UsageError(
                    f"nothing makes old vectors of points {some}",
                    remedy="Give the old encoder by --encoder, the anchors of the migration by "
                    "--keep-anchors for a map, or both.",
                )
            made[rest] = self.back.transform(np.ascontiguousarray(batch.vectors[rest]))
        return made, [Origin.ENCODED if done else Origin.TRANSLATED for done in encoded.tolist()]

    def _encode(self, batch: VectorBatch, made: Vectors) -> NDArray[np.bool_]:
        """Fill in what the encoder makes; return for which points it did."""
        done = np.zeros(len(batch), np.bool_)
        if self.encoder is None:
            return done
        texts = batch.texts(self.text_field) or [None] * len(batch)
        if self.encoder.needs_texts:
            rows = np.array([row for row, text in enumerate(texts) if text is not None], np.intp)
        else:
            rows = np.arange(len(batch))
        if not len(rows):
            return done
        try:
            made[rows] = self.encoder.encode(
                [texts[row] or "" for row in rows.tolist()], ids=batch.ids[rows]
            )
        except UnreachableError as error:
            if self.back is None:
                raise
            self.announce(f"the map takes the old encoder's place: {error.message}")
            self.encoder = None
            return done
        done[rows] = True
        return done


class _Run:
    """One run, with everything open.

    Parameters
    ----------
    known
        The ledger of the new collection: what the migration and syncs wrote there.
    mine
        The ledger of the way back: of each point that was brought, hashes of what the new
        collection had then.
    """

    def __init__(
        self,
        new: Source,
        old: Source,
        target: str,
        known: Ledger,
        mine: Ledger,
        asked: SyncOptions,
        callbacks: Callbacks,
    ) -> None:
        self._begun = time.perf_counter()
        self._new, self._old, self._target = new, old, target
        self._known, self._mine, self._asked, self._callbacks = known, mine, asked, callbacks
        self._uri = new.describe().uri
        provenance = old.describe().provenance
        if provenance is not None:
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            provenance = provenance.as_of(now)
        self._writing = TargetChanges(target, mine, provenance)
        self._vectors: _OldVectors | None = None
        self._ulps = max(new.payload_ulps(), old.payload_ulps())
        self._skipped = Skipped()
        self._counts = dict.fromkeys(("arrived", "changed", "vanished"), 0)
        self._read = 0

    def go(self) -> SyncResult:
        """Find what changed, and bring it."""
        mine, asked = self._mine, self._asked
        if not asked.dry_run:
            self._writing.complete_interrupted()
            mine.note(run=mine.run)
        self._scan()
        ours, gone = mine.count("known"), mine.count("gone")
        if gone > asked.max_vanished * max(ours, 1):
            raise MismatchError(
                f"{gone:,} of {ours:,} points would be deleted from {self._target}, since "
                f"{self._uri} does not have them",
                remedy="Check that nothing was lost there; if it was meant, allow it with "
                "--max-vanished 1.",
            )
        try:
            for ids in mine.listed("differing", asked.batch_size):
                for whole in fetch_there(self._new, ids):
                    self._bring(whole)
                self._stop_if_asked()
            for ids in mine.listed("gone", asked.batch_size):
                if not asked.dry_run:
                    self._writing.delete(ids)
                self._counts["vanished"] += len(ids)
                self._stop_if_asked()
            self._writing.finish()
        finally:
            self._writing.let_go()
        if not asked.dry_run:
            self._note_theirs()
        return self._result()

    def _note_theirs(self) -> None:
        """Have syncs the other way know what was brought for what others own at the new one.

        They would take these points of the old collection for arrivals, and bring what others have
        deleted since.
        """
        mine, known = self._mine, self._known
        mine.list_ids("theirs", "SELECT id FROM points WHERE id NOT IN (SELECT id FROM known)")
        with open_source(self._target) as old:
            comparable = known.fact("form") == old.hash_form
            for ids in mine.listed("theirs", self._asked.batch_size):
                for found in fetch_there(old, ids):
                    hashes = source_hashes(found).tolist()
                    known.settle(
                        LedgerRow(i, vector if comparable else None, payload, Origin.FOREIGN)
                        for i, (vector, payload) in zip(found.ids.tolist(), hashes, strict=True)
                    )

    def _scan(self) -> None:
        """List the points of the new collection that are not as they are known, and those gone."""
        mine, size = self._mine, self._asked.batch_size
        mine.collect_ids("known", self._known.ids(size))
        for table in ("seen", "doubtful"):
            mine.make(table)
        for whole in prefetch(self._new.whole_batches(size)):
            mine.add_ids("seen", whole.ids)
            self._read += len(whole)
            mine.add_ids("doubtful", whole.ids[self._doubtful(whole)])
            self._callbacks.progress(len(whole))
            self._stop_if_asked()
        mine.collect_ids("there", prefetch(self._old.ids(size)))
        mine.list_ids("differing", "SELECT id FROM doubtful")
        mine.list_ids("gone", _GONE)

    def _doubtful(self, whole: VectorBatch) -> NDArray[np.bool_]:
        """Tell which points are not as the migration wrote them, nor as they were brought back."""
        held = HeldVectors(
            whole, self._new.rounding(), payloads=True, ulps=self._new.payload_ulps()
        )
        hashes = source_hashes(whole).tolist()
        comparable = self._known.fact("form") == self._new.hash_form
        written, brought = self._known.entries(whole.ids), self._mine.entries(whole.ids)
        interrupted = self._mine.interrupted(whole.ids)
        # A sync that was killed wrote these, and could not note it.
        unsettled = self._known.interrupted(whole.ids)
        found = np.ones(len(whole), np.bool_)
        for at, (vector, payload) in enumerate(hashes):
            entry, before = written[at], brought[at]
            if before is not None and before.id not in interrupted:
                found[at] = (before.vector, before.payload) != (vector, payload)
            elif held.is_as_written(unsettled, at):
                found[at] = False
            elif entry is not None and comparable:
                found[at] = entry.payload != payload or not held.are_ours(entry, at)
        return found

    def _bring(self, whole: VectorBatch) -> None:
        """Bring points that may differ."""
        bare = np.array(whole.each_count()) == 0
        self._skipped.ids += whole.ids[bare].tolist()
        screened = screen(
            [whole.with_one_vector()], self._uri, self._asked.on_bad_vector, self._skipped
        )
        for batch in screened:
            held = HeldVectors(batch, self._new.rounding())
            ours = held.which_are_ours(self._known.entries(batch.ids))
            there = {
                point: (vector, payload)
                for found in fetch_there(self._old, batch.ids)
                for point, vector, payload in _each(found.with_one_vector())
            }
            self._write(batch, ours, there)

    def _write(
        self,
        batch: VectorBatch,
        ours: NDArray[np.bool_],
        there: dict[PointId, tuple[Vectors, Payload]],
    ) -> None:
        """Write native points, and payloads that changed; the rest is as the old one has it."""
        payloads = [without_mark(payload) for payload in batch.each_payload()]
        hashes = source_hashes(batch).tolist()
        ids = batch.ids.tolist()
        payload_alone: list[int] = []
        for row in np.flatnonzero(ours).tolist():
            found = there.get(ids[row])
            # A point that the old one lost is for the next sync the other way.
            if found is not None and not same_payload(payloads[row], found[1], self._ulps):
                payload_alone.append(row)
        native = np.flatnonzero(~ours).tolist()
        rows = sorted((*payload_alone, *native))
        arrived = sum(ids[row] not in there for row in rows)
        self._counts["arrived"] += arrived
        self._counts["changed"] += len(rows) - arrived
        if self._asked.dry_run or not rows:
            return
        vectors = np.empty((len(batch), self._old.describe().dimension), np.float32)
        origins = [Origin.FOREIGN] * len(batch)
        for row in payload_alone:
            vectors[row] = there[ids[row]][0]
        if native:
            made, how = self._made().make(batch.take(np.array(native)))
            vectors[native] = made
            for row, origin in zip(native, how, strict=True):
                origins[row] = origin
        chosen = np.array(rows, np.intp)
        writes = batch.with_vectors(vectors).with_payloads(
            payloads if batch.payloads is not None else None
        )
        entries = [
            LedgerRow(ids[row], hashes[row][0], hashes[row][1], origins[row]) for row in rows
        ]
        writes = writes.take(chosen)
        note_payloads(writes, entries)
        self._writing.write(writes, entries)
        self._callbacks.progress(len(rows))

    def _made(self) -> _OldVectors:
        """Return what makes old vectors, opened when the first point needs one."""
        if self._vectors is None:
            described, asked = self._old.describe(), self._asked
            encoder = None if asked.encoder is None else open_encoder(asked.encoder)
            if encoder is not None and encoder.identity.dimension != described.dimension:
                raise MismatchError(
                    f"{self._target} has {described.dimension} dimensions, and "
                    f"{encoder.identity} makes {encoder.identity.dimension}",
                    remedy="Give the encoder that made the old collection.",
                )
            back = None if asked.keep_anchors is None else self._fitted(asked.keep_anchors)
            self._vectors = _OldVectors(
                described.dimension, described.text_field, encoder, back, self._callbacks.announce
            )
        return self._vectors

    def _fitted(self, path: Path) -> Translator:
        """Fit the map of the other direction."""
        anchors = load_anchors(path)
        shape = anchors.target_vectors.shape[1], anchors.source_vectors.shape[1]
        wanted = self._new.describe().dimension, self._old.describe().dimension
        if shape != wanted:
            raise MismatchError(
                f"the anchors of {path} lead from {shape[0]} to {shape[1]} dimensions, not from "
                f"{wanted[0]} to {wanted[1]}",
                remedy="Give the anchors of the migration.",
            )
        back, _ = fit_translator(anchors.target_vectors, anchors.source_vectors, method=_METHOD)
        return back

    def _stop_if_asked(self) -> None:
        if self._callbacks.stop():
            raise TerminatedError(
                f"stopped before {self._target} had all of {self._uri}",
                remedy="Run the same command to continue.",
            )

    def _result(self) -> SyncResult:
        with open_source(self._target) as target:
            count = target.describe().count
        origins = self._mine.origins()
        return SyncResult(
            source=self._uri,
            target=self._target,
            arrived=self._counts["arrived"],
            changed=self._counts["changed"],
            vanished=self._counts["vanished"],
            found_by=FoundBy(way=Way.HASH, read=self._read),
            skipped_ids=tuple(dict.fromkeys(self._skipped.ids)),
            translated=origins[Origin.TRANSLATED],
            encoded=origins[Origin.ENCODED],
            count=count,
            dry_run=self._asked.dry_run,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.perf_counter() - self._begun,
        )


def _each(batch: VectorBatch) -> Iterator[tuple[PointId, Vectors, Payload]]:
    return zip(batch.ids.tolist(), batch.vectors, batch.each_payload(), strict=True)
