"""Brings a target in step with its source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vecmigrate.anchors import load_anchors
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.addresses import canonical_place, followed_place, followed_uri
from vecmigrate.connector.registry import hold, open_source
from vecmigrate.connector.source import Source, fetch_existing, fetch_there
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.encoders import Budget, Meter, MeteredEncoder, open_encoder
from vecmigrate.encoders.embedded import Embedded
from vecmigrate.encoders.metered import BATCH
from vecmigrate.encoders.queries import query_vectors
from vecmigrate.errors import (
    MismatchError,
    TerminatedError,
    UsageError,
    VectorNotFoundError,
)
from vecmigrate.migration.bought import (
    BoughtVectors,
    bought_by_queries,
    bought_path,
    buying,
    remove_bought,
    reusable,
)
from vecmigrate.migration.route import Map
from vecmigrate.points.batch import IdArray, PointId, VectorBatch
from vecmigrate.points.collection import CollectionDescription
from vecmigrate.points.screening import OnBadVector, Skipped, screen
from vecmigrate.runtime.options import Callbacks
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock
from vecmigrate.state.files import FileLog
from vecmigrate.state.ledger import (
    HASH_RULE,
    HeldVectors,
    Origin,
    ledger_key,
    ledger_path,
    open_ledger,
)
from vecmigrate.state.migrations import job_key
from vecmigrate.state.scan import FoundBy, Way
from vecmigrate.sync.bare import bare_points, judge_bare
from vecmigrate.sync.changes import (
    Changes,
    find_changes,
    mark_of,
)
from vecmigrate.sync.constancy import check_as_written
from vecmigrate.sync.erase import erase_vanished
from vecmigrate.sync.native import Embedding
from vecmigrate.sync.options import SyncOptions, SyncResult
from vecmigrate.sync.others import SHOWN, others_wrote, rewritten
from vecmigrate.sync.ownership import check_belongs
from vecmigrate.sync.reconcile import Judge, Judged
from vecmigrate.sync.reembed import check_encoder, choose, reembedded, write_back
from vecmigrate.sync.views import KnownVectors, OwnPoints
from vecmigrate.sync.write import TargetChanges
from vecmigrate.translators.file import check_translator
from vecmigrate.verification.vectors import lacking_vectors, unknown_vectors

SHARED_AT_ONCE = 64
"""So many points of a shared target are looked at and then written, to leave others little time."""


def sync(
    source: str,
    target: str,
    translator: str | Path | None,
    state: str | Path,
    options: SyncOptions | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], None] = lambda count: None,
    **given: Any,
) -> SyncResult:
    """Bring ``target`` in step with ``source``, and re-embed some of it if asked to.

    What arrived or changed is embedded by the encoder, if there is one, or translated, and
    written; what vanished is deleted, and what somebody
    else deleted at the target is written again. Points that somebody else wrote there stop the run
    before its first write, unless ``overwrite`` or ``shared_target`` says what is to become of
    them. Nothing to do writes nothing. Memory is that of a batch; what is known of the points is
    in a ledger beside the state file, which the migration began.

    Parameters
    ----------
    target
        A collection that :func:`migrate` wrote, or a name that leads there; that is followed once.
    translator
        The file that it was written with; None if an encoder made all of its vectors.
    state
        The state file.
    options, given
        :class:`SyncOptions`, or fields of it by name.
    stop, announce, progress
        See :class:`Callbacks`.

    Raises
    ------
    LockedError
        If another run is at work on these.
    MismatchError
        If the target was not written from this source by this translator, others have written
        points there, or more vanished than ``max_vanished``; nothing was changed.
    BadVectorError
        If a vector is not usable and ``on_bad_vector`` is ``fail``.
    TerminatedError
        If ``stop`` said so.
    VerificationError
        If the target does not hold what was written.
    InputError, UsageError, UnreachableError, WriteError
        From the stores and the encoder.
    """
    asked, state = SyncOptions.given(options, given), Path(state)
    if translator is None and asked.encoder is None:
        raise UsageError(
            "neither a translator nor an encoder is given",
            remedy="Name with --translator or --encoder what the target was written with.",
        )
    callbacks = Callbacks(stop, announce, progress)
    with ExitStack() as stack:
        # Held open: embedded storage is loaded anew if nobody else has it open.
        stack.enter_context(open_source(target)).describe().require_finished()
        place = followed_uri(target)
        locks = state.parent / "locks"
        what = f"{source} to {target}"
        stack.enter_context(job_lock(locks, job_key(source, place), what))
        stack.enter_context(job_lock(locks, ledger_key(place), what))
        if not asked.dry_run:
            stack.enter_context(hold(place))
        made_by = None if translator is None else Map.read(translator)
        return _Run(source, place, made_by, state, asked, callbacks, stack).go()


class _Run:
    """One run, with everything open."""

    def __init__(
        self,
        source: str,
        target: str,
        made_by: Map | None,
        state: Path,
        asked: SyncOptions,
        callbacks: Callbacks,
        stack: ExitStack,
    ) -> None:
        self._begun = time.perf_counter()
        records = stack.enter_context(closing(open_state(state)))
        ledger = stack.enter_context(
            open_ledger(ledger_path(state, target), keep=not asked.dry_run)
        )
        self._source_uri, self._target_uri = source, target
        self._ledger, self._asked, self._stack = ledger, asked, stack
        self._readers_led = bool(CutoverLog(records).leading_to(canonical_place(target)))
        self._callbacks = callbacks
        self._card = made_by.card if made_by else None
        self._translator = made_by.translator if made_by else None
        self._anchors = None if asked.keep_anchors is None else load_anchors(asked.keep_anchors)
        with open_source(target) as opened:
            before = opened.describe()
        self._in_place = before.in_place
        self._fields: tuple[str, ...] = ()
        self._source = stack.enter_context(self._open_source(before))
        described = self._source.describe()
        if described.multivector:
            raise UsageError(
                f"the points of {source} have several vectors each, which sync does not compare",
                remedy="Migrate to a new target.",
            )
        self._text_field = described.text_field
        if self._translator is not None:
            check_translator(described, self._translator, self._card)
        self._anchors_known = check_belongs(
            source, before, made_by.sha256 if made_by else None, self._anchors, ledger, records,
            source_moved=asked.source_moved,
        )  # fmt: skip
        assert before.provenance is not None
        self._written_by = before.provenance.run()
        self._translator_path = made_by.file if made_by else None
        self._records, self._state = records, state
        self._keeper = None
        if self._anchors is not None and self._card is not None:
            self._keeper = AnchorKeeper(self._anchors, self._card, self._text_field)
        self._budget = None if asked.budget is None else Budget.parse(asked.budget)
        self._encoder: MeteredEncoder | None = None
        self._embedding: Embedding | None = None
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        provenance = before.provenance.as_of(now)
        self._writing = TargetChanges(target, ledger, provenance, in_place=self._in_place)
        self._skipped, self._refused = Skipped(), list[PointId]()
        # Points vanished at the source between being looked at and being fetched.
        self._missed = False
        self._counts = dict.fromkeys(
            ("arrived", "changed", "vanished", "adopted", "left_alone", "reembedded", "native"), 0
        )

    def _open_source(self, target: CollectionDescription) -> Source:
        """Open the source; if the target shares its points, for the old vector alone.

        Else for what the target has a place for.

        Raises
        ------
        MismatchError
            If the old vector is gone, or nothing would tell which vectors are an encoder's.
        """
        if not target.in_place:
            return self._known(open_source(self._source_uri), target)
        if self._translator is not None and self._asked.encoder is not None:
            raise MismatchError(
                f"the points of {target.uri} are the source's own and keep no mark of whose vector "
                "they have, by which verify knows the encoder's",
                remedy="Leave --encoder and --reembed-budget out, or migrate to a new collection.",
            )
        try:
            opened = open_source(self._source_uri)
        except VectorNotFoundError as error:
            raise MismatchError(
                f"nothing is left that {target.uri} could be brought in step with: {error.message}",
                remedy="If drop-source has removed the old vector, let writers give points the "
                "new one themselves.",
            ) from error
        described = opened.describe()
        maps = self._translator
        reads_texts = maps is None or maps.text_dim_ or self._anchors is not None
        if described.text_field is not None and reads_texts:
            self._fields = (described.text_field,)
        if (field := self._asked.finding.field) is not None:
            if maps is None:
                raise UsageError(
                    f"with a field in --changed-by, the points of {target.uri} would be embedded "
                    "whenever it changes, whether or not their text has",
                    remedy="Leave --changed-by out: the texts are compared.",
                )
            self._fields += (field,)
        return self._seen(opened)

    def _known(self, opened: Source, target: CollectionDescription) -> Source:
        """Leave out vectors that the target has no place for."""
        unknown = unknown_vectors(opened.describe(), target)
        if not unknown:
            return opened
        self._callbacks.announce(lacking_vectors(unknown))
        return KnownVectors(opened, unknown)

    def _seen(self, opened: Source) -> Source:
        return OwnPoints(opened, self._fields) if self._in_place else opened

    def go(self) -> SyncResult:
        asked, ledger = self._asked, self._ledger
        if not asked.dry_run:
            self._writing.complete_interrupted()
        self._target = self._stack.enter_context(self._seen(open_source(self._target_uri)))
        self._shared = self._is_shared()
        self._tells_payloads = (
            self._shared
            and not self._in_place
            and ledger.tells_payloads(self._source, self._target)
        )
        plan = find_changes(
            self._source, self._target, ledger, asked.finding, asked.batch_size,
            lacking=self._in_place or not self._shared, overwrite=asked.overwrite,
        )  # fmt: skip
        self._check(plan)
        if plan.changed and ledger.fact("last") and ledger.fact("rule") != HASH_RULE:
            self._callbacks.announce(
                f"{plan.changed:,} points are not as the ledger knows them, perhaps only because "
                "an older version noted them by another rule: such points are compared once, and "
                "not written"
            )
        if asked.dry_run:
            self._counts.update(arrived=plan.arrived, changed=plan.changed, vanished=plan.vanished)
            return self._result(plan.scan.found_by, plan.unknown)
        marks = plan.marked or self._keeper is not None or asked.encoder is not None
        marks = marks and not self._in_place
        if plan.arrived or plan.changed or plan.unknown or self._budget is not None:
            self._open_encoder(marks=marks)
        if ledger.fact("form") != self._source.hash_form:
            # If this run is stopped, the ledger has hashes of both forms.
            ledger.note(form=None)
        ledger.note(
            run=ledger.run, shared=self._said_shared, led=self._readers_led, marked=marks,
            source=followed_place(self._source_uri),
            anchors=None if self._anchors is None else self._anchors.sha256(),
        )  # fmt: skip
        self._judge = Judge(
            self._translator, self._keeper, self._target, ledger, self._text_field,
            marks=marks, overwrite=asked.overwrite, shared=self._shared,
            tells_payloads=self._tells_payloads, in_place=self._in_place,
        )  # fmt: skip
        if self._shared and not self._in_place and ledger.was_interrupted():
            ledger.drop_intents()
        self._take_in(plan)
        self._carry_out_all(plan)
        return self._noted(plan)

    def _open_encoder(self, *, marks: bool) -> None:
        """Open the encoder, if one is given, to embed what is written; it is not bought twice.

        Raises
        ------
        MismatchError
            If it makes no vectors of the target's space, or others than before.
        InputError, MissingDependencyError, UnreachableError
            If it cannot be opened.
        """
        if self._asked.encoder is None:
            return
        meter = Meter(self._budget, self._asked.price_per_million_tokens, counts_reused=False)
        opened = MeteredEncoder(open_encoder(self._asked.encoder), meter)
        check_encoder(opened, self._card, self._target.describe())
        key = ledger_key(self._target_uri)
        path = bought_path(self._state, key, opened.identity)
        places = FileLog(self._records).of(self._source_uri)
        found = list(reusable(places, opened.identity))
        self._encoder = self._stack.enter_context(buying(opened, path, found)).encoder
        self._embedding = Embedding(
            self._encoder, self._text_field, self._asked.on_missing_text, self._skipped,
            self._refused, translated=self._translator is not None, marks=marks,
        )  # fmt: skip
        check_as_written(
            self._ledger, self._source, self._target, self._encoder, self._text_field,
            in_place=self._in_place,
        )  # fmt: skip

    def _carry_out_all(self, plan: Changes) -> None:
        """Write and delete what the plan lists."""
        asked, ledger = self._asked, self._ledger
        size = min(asked.batch_size, SHARED_AT_ONCE) if self._shared else asked.batch_size
        try:
            for table in ("arriving", "changed"):
                for ids in ledger.listed(table, size):
                    self._bring(ids)
                    self._stop_if_asked()
            for ids in ledger.listed("bare", asked.batch_size):
                self._bring_bare(ids)
                self._stop_if_asked()
            if plan.scan.found_by.way is not Way.STAMP:
                self._erase_vanished()
            for ids in ledger.listed("gone", asked.batch_size):
                self._remove(ids)
                self._stop_if_asked()
            with self._written_back():
                self._reembed()
                self._writing.finish()
        finally:
            self._writing.let_go()

    def _noted(self, plan: Changes) -> SyncResult:
        """Note in the ledger what the next run is to know, and return what was done."""
        ledger = self._ledger
        if not self._skipped:
            plan.scan.note(ledger)
        ledger.leave_out(self._skipped.ids, self._skipped.as_read)
        result = self._result(plan.scan.found_by)
        # What was written since is not what was looked at.
        ledger.note(target_as=None if result.wrote else plan.target_as)
        form: str | None = self._source.hash_form
        partly = plan.scan.found_by.not_compared or self._missed
        if partly and ledger.fact("form") != form:
            form = None
        last = result.model_dump(mode="json", exclude={"skipped_ids", "refused_ids"})
        ledger.note(last=last, rule=HASH_RULE, form=form)
        # What was bought is at the target.
        remove_bought(self._state, ledger_key(self._target_uri))
        return result

    def _is_shared(self) -> bool:
        """Tell whether others may write to the target.

        Raises
        ------
        MismatchError
            If readers were led there, so that they do, and their points were to be replaced.
        """
        # Points that are the source's own have other writers by nature.
        said = self._asked.shared_target or self._in_place or bool(self._ledger.fact("shared"))
        self._said_shared = said and not self._asked.overwrite
        if not self._readers_led or self._in_place:
            return self._said_shared
        if self._asked.overwrite:
            raise MismatchError(
                f"readers were led to {self._target_uri}, where applications write now: "
                "--overwrite would replace what they wrote",
                remedy="Leave --overwrite out; or first lead readers back with vecmigrate "
                "rollback.",
            )
        if not self._said_shared:
            self._callbacks.announce(
                f"readers were led to {self._target_uri}: what applications write and delete there "
                "is left alone"
            )
        return True

    def _check(self, plan: Changes) -> None:
        if plan.strangers and not (self._shared or self._asked.overwrite):
            some = next(self._ledger.listed("strangers", SHOWN)).tolist()
            raise others_wrote(self._target_uri, plan.strangers, some)
        if plan.vanished > self._asked.max_vanished * plan.ours:
            raise MismatchError(
                f"{plan.vanished:,} of {plan.ours:,} points would be deleted from "
                f"{self._target_uri}, since {self._source_uri} does not have them",
                remedy="Check that the source is the right one and whole; if it is, allow it with "
                "--max-vanished 1.",
            )
        unsaid = self._keeper is None and not self._anchors_known
        scale = self._card.mixing_scale if self._card else None
        if plan.encoded_marks and unsaid and (scale or 1) < 1:
            raise MismatchError(
                f"{self._target_uri} holds true vectors beside translated ones, and its ledger is "
                "not here to tell their scale",
                remedy="Give --keep-anchors with the file that migrate had.",
            )

    def _take_in(self, plan: Changes) -> None:
        """Compare points that are not known, and find what others wrote before anything is written.

        Raises
        ------
        MismatchError
            If others wrote points, and nobody has said what is to become of these.
        """
        ledger, size = self._ledger, self._asked.batch_size
        if plan.unknown and ledger.is_new():
            self._callbacks.announce(
                f"{plan.unknown:,} points at the target are not known here: each is compared once"
            )
        others: list[PointId] = []
        for ids in ledger.listed("unknown", size):
            for batch in screen(
                self._fetched(ids), self._source_uri,
                self._asked.on_bad_vector, self._skipped,
            ):  # fmt: skip
                judged = self._judge.judge(batch)
                self._settle(judged)
                done = [*judged.settled, *(judged.foreign if self._shared else ())]
                ledger.strike([row.id for row in done], ("arriving", "changed"))
                others += [row.id for row in judged.foreign]
                self._callbacks.progress(len(judged.settled) + len(judged.foreign))
            self._stop_if_asked()
        if self._shared or self._asked.overwrite:
            return
        for table in ("changed", "bare", "gone"):
            for ids in ledger.listed(table, size):
                others += rewritten(ids, self._source, self._target, ledger, self._judge)
        if others:
            raise others_wrote(self._target_uri, len(others), others)

    def _fetched(self, ids: IdArray) -> Iterator[VectorBatch]:
        """Yield points of the source; take note if some have vanished since it was looked at."""
        found = 0
        for batch in fetch_existing(self._source, ids):
            found += len(batch)
            yield batch
        self._missed |= found < len(ids)

    def _bring(self, ids: IdArray) -> None:
        """Bring points of the source in step."""
        batches = self._fetched(ids)
        policy = self._asked.on_bad_vector
        for batch in screen(batches, self._source_uri, policy, self._skipped):
            judged = self._judge.judge(batch)
            if self._embedding is not None:
                made = self._embedding.embedded(judged)
                if self._shared and made is not judged:
                    # Embedding took a while; now what is looked up is written at once.
                    made = self._embedding.embedded(self._judge.judge(batch))
                self._counts["native"] += made.native
                judged = made
            self._carry_out(judged, len(batch))

    def _bring_bare(self, ids: IdArray) -> None:
        """Bring points in step that have no vector at the source."""
        for whole in fetch_there(self._source, ids):
            batch = bare_points(whole)
            if len(batch):
                judged = judge_bare(
                    batch, self._target, self._ledger, overwrite=self._asked.overwrite
                )
                self._carry_out(judged, len(batch))

    def _settle(self, judged: Judged) -> None:
        self._ledger.settle(judged.settled)
        self._counts["adopted"] += len(judged.settled)
        if self._shared:
            self._ledger.settle(judged.foreign)
            self._counts["left_alone"] += len(judged.foreign)

    def _carry_out(self, judged: Judged, points: int) -> None:
        self._settle(judged)
        if judged.foreign and not self._shared:
            raise others_wrote(
                self._target_uri, len(judged.foreign), [row.id for row in judged.foreign]
            )
        if judged.writes is not None:
            self._writing.write(judged.writes, judged.intended)
            self._counts["arrived"] += judged.new
            self._counts["changed"] += len(judged.intended) - judged.new
        self._callbacks.progress(points)

    def _erase_vanished(self) -> None:
        """Remove what vanished from files beside the target, too."""
        log, asked = FileLog(self._records), self._asked
        log.note(self._source_uri, self._translator_path, asked.keep_anchors)
        erase_vanished(
            self._ledger, self._records, self._state, self._source_uri, self._written_by,
            self._callbacks.announce,
        )  # fmt: skip

    def _remove(self, ids: IdArray) -> None:
        """Delete what vanished, as far as it is ours still, or all is to be."""
        ledger = self._ledger
        known = dict(zip(ids.tolist(), ledger.entries(ids), strict=True))
        interrupted = ledger.interrupted(ids)
        ours: set[PointId] = set()
        for found in fetch_there(self._target, ids[ledger.there(ids)]):
            held = HeldVectors(
                found, self._target.rounding(), payloads=self._tells_payloads,
                ulps=self._target.payload_ulps(),
            )  # fmt: skip
            payloads = found.each_payload()
            for at, (point, payload) in enumerate(zip(found.ids.tolist(), payloads, strict=True)):
                entry = known[point]
                written = (self._in_place and point in interrupted) or held.is_as_written(
                    interrupted, at
                )
                if (
                    self._asked.overwrite
                    or written
                    or (entry is None and mark_of(payload) is not None)
                    or held.are_ours(entry, at)
                ):
                    ours.add(point)
        gone = [row for row, point in enumerate(ids.tolist()) if point in ours]
        ledger.forget(point for point in ids.tolist() if point not in ours)
        if gone:
            self._writing.delete(ids[gone])
            self._counts["vanished"] += len(gone)

    def _reembed(self) -> None:
        """Spend the budget."""
        if self._budget is None or self._encoder is None or self._translator is None:
            return
        if not self._translator.tells_variance:
            self._callbacks.announce(
                f"a translator of method {self._translator.method} tells no variance: points are "
                "chosen " + ("by queries alone" if self._asked.queries else "to be spread over all")
            )
        queries = None
        if self._asked.queries is not None:
            queries = query_vectors(self._asked.queries, self._encoder, self._target_uri)
        if self._translator.tells_variance:
            self._tell_variances()
        needs_texts = self._encoder.needs_texts
        # Opened anew: some stores show points as they were when the target was opened.
        with open_source(self._target_uri) as target:
            if not choose(self._ledger, target, queries, needs_texts=needs_texts):
                return
            field = self._text_field or target.describe().text_field
            for batch, entries in reembedded(
                self._ledger, target, self._encoder, field, self._refused
            ):
                self._writing.write(batch, entries)
                self._counts["reembedded"] += len(batch)
                self._callbacks.progress(len(batch))
                self._stop_if_asked()

    @contextmanager
    def _written_back(self) -> Iterator[None]:
        """Write what queries of the target have bought; at the end it is kept no longer."""
        made_by = self._card.target_encoder if self._card else None
        with ExitStack() as stack:
            found = []
            if self._translator is not None and not self._in_place:
                found = stack.enter_context(
                    bought_by_queries(self._state, self._target_uri, made_by)
                )
            upto = [(bought, self._write_back(bought)) for bought in found]
            yield
            for bought, last in upto:
                bought.drop(last)

    def _write_back(self, bought: BoughtVectors) -> int:
        """Write what queries bought; return up to which one."""
        ids, last = bought.points()
        size = SHARED_AT_ONCE if self._shared else BATCH
        # Opened anew: some stores show points as they were when the target was opened.
        with open_source(self._target_uri) as target:
            field = self._text_field or target.describe().text_field
            for batch, entries in write_back(self._ledger, target, bought, ids, field, size):
                self._ledger.note(marked=True)
                self._writing.write(batch, entries)
                self._counts["reembedded"] += len(batch)
                self._stop_if_asked()
        return last

    def _tell_variances(self) -> None:
        """Note the variances of points that a migration wrote, which notes none."""
        untold = "points WHERE origin = ? AND variance IS NULL"
        if not self._ledger.count(untold, Origin.TRANSLATED):
            return
        for batch in self._source.batches(self._asked.batch_size):
            for good in screen([batch], self._source_uri, OnBadVector.SKIP, Skipped()):
                self._ledger.tell_variances(self._judge.expected_rows(good))

    def _stop_if_asked(self) -> None:
        if self._callbacks.stop():
            raise TerminatedError(
                f"stopped before {self._target_uri} was in step",
                remedy="Run the same command to continue.",
            )

    def _embedded(self) -> Embedded | None:
        """Return what embedding took; None for ready-made vectors, too."""
        encoder = self._encoder
        return Embedded.of(encoder) if encoder is not None and encoder.needs_texts else None

    def _result(self, found_by: FoundBy, compared: int = 0) -> SyncResult:
        with open_source(self._target_uri) as target:
            count = target.describe().count
        origins = self._ledger.origins()
        counts = {**self._counts, "passed_over": self._writing.passed_over}
        return SyncResult(
            source=self._source_uri,
            target=self._target_uri,
            **counts,
            found_by=found_by,
            embedded=self._embedded(),
            skipped_ids=tuple(dict.fromkeys(self._skipped.ids)),
            refused_ids=tuple(dict.fromkeys(self._refused)),
            compared=compared,
            translated=origins[Origin.TRANSLATED],
            encoded=origins[Origin.ENCODED],
            count=count,
            dry_run=self._asked.dry_run,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.perf_counter() - self._begun,
        )
