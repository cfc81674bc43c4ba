"""A migration in three: it is prepared, its points are streamed, its target is published."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.sink import Sink
from vecmigrate.connector.source import Source
from vecmigrate.encoders import BudgetSpentError, Meter
from vecmigrate.encoders.embedded import Embedded
from vecmigrate.errors import MismatchError, UsageError, VerificationError
from vecmigrate.migration.bought import Purchases, remove_bought
from vecmigrate.migration.catch_up import CatchUp
from vecmigrate.migration.constancy import check_as_bought
from vecmigrate.migration.dead_letters import DeadLetters, PointWriter
from vecmigrate.migration.engines import Conversion, Engine
from vecmigrate.migration.options import MigrateOptions
from vecmigrate.migration.progress import Progress, UnsavedProgress, keep_progress
from vecmigrate.migration.route import Route
from vecmigrate.migration.translate import (
    Converter,
    HashingConverter,
    Spent,
    StageSeconds,
    StopAskedError,
)
from vecmigrate.migration.write import Pace, Writing
from vecmigrate.points.batch import PointId
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import CollectionDescription, Provenance, TargetSpec
from vecmigrate.points.screening import Absent, Skipped
from vecmigrate.runtime.options import Callbacks
from vecmigrate.state.ledger import Origin, begun_ledger
from vecmigrate.state.migrations import JobInputs, MigrationRecord, MigrationStatus
from vecmigrate.state.scan import FoundBy, begin_by_field, note_stamp
from vecmigrate.telemetry.events import Steps
from vecmigrate.translators import Translator, TranslatorCard

_log = logging.getLogger(__name__)


class MigrationResult(BaseModel):
    """What a migration did.

    Attributes
    ----------
    read, written
        Points; they differ by the ones skipped.
    continued_after
        Of these, points that an earlier run had written.
    kept_anchors
        Points whose vector is the new encoder's own.
    skipped_ids
        Points left out for a bad vector, or without a text that the encoder takes.
    refused_ids
        Points whose text the encoder did not take, of this run: left out, or translated.
    quarantined_ids, dead_letters
        Points that the target's store refused, and the file that holds them.
    seconds
        From the first read to the publication, of this run; verification not counted.
    streaming_seconds, vectors_per_second
        Of that, from the first read until the last point was written, and the rate in it.
    indexing_seconds
        Of that, from then on, until the target's store had indexed the points and published them.
    stages
        What reading, translating and writing took, which overlap; of this run.
    target
        The new collection, as found when opened again.
    notes
        What of the source the target does not have, and why.
    as_of
        If others wrote to the source meanwhile: when the last pass over it began, ISO 8601. What
        changed since is for a sync.
    found_by
        How the last pass over the source found what had changed; None if there was none.
    native
        Points that applications had written at a shared target and that were left as they are; they
        count as written.
    in_step
        False if others write to the target, or wrote to the points that got the vector in place: a
        sync is to follow.
    embedded
        What embedding texts took; None if none were to be, as of ready-made vectors.
    """

    source: CollectionDescription
    target: CollectionDescription
    read: int
    written: int
    continued_after: int = 0
    kept_anchors: int
    skipped_ids: list[PointId]
    refused_ids: list[PointId] = []
    quarantined_ids: list[PointId] = []
    dead_letters: str | None = None
    seconds: float
    streaming_seconds: float
    indexing_seconds: float
    vectors_per_second: float
    stages: StageSeconds
    notes: tuple[str, ...] = ()
    as_of: str | None = None
    found_by: FoundBy | None = None
    native: int = 0
    in_step: bool = True
    embedded: Embedded | None = None

    def counts(self) -> dict[str, int]:
        """Return the points by what was done with them, as a record of the run keeps it."""
        return {
            "read": self.read,
            "written": self.written,
            "skipped": len(self.skipped_ids),
            "quarantined": len(self.quarantined_ids),
            "kept_anchors": self.kept_anchors,
        }


@contextmanager
def prepare(
    source: str | Source,
    target: str,
    translator: Translator | str | Path | None,
    options: MigrateOptions,
    state: Path | None,
    callbacks: Callbacks,
    meter: Meter | None = None,
) -> Iterator[Move]:
    """Open and check everything; nothing is written yet. Errors as :func:`migrate`."""
    route = Route.open(translator, options, meter)
    with ExitStack() as stack:
        reader = stack.enter_context(open_source(source)) if isinstance(source, str) else source
        description = reader.describe()
        route.check(description, options)
        engine = options.open_engine()
        engine.check(reader)
        anchors = options.keep_anchors
        if isinstance(anchors, Path):
            anchors = load_anchors(anchors)
        keeper = (
            None if route.made_by is None else _keeper(anchors, route.made_by.card, description)
        )
        kept = None if keeper is None else anchors
        record = _record(reader, target, route, kept, options, state)
        catches_up = reader.live and not options.still
        progress = stack.enter_context(_saved(record, state, options, catches_up))
        job = progress.job or record
        skipped, refused = Skipped(ids=list(job.skipped_ids)), list[PointId]()
        purchases = stack.enter_context(route.buying(job, anchors, options, state))
        if purchases is not None and not progress.is_published():
            check_as_bought(purchases, reader)
        move = Move(
            source=reader,
            description=description,
            target=target,
            converter=route.converter(
                purchases, reader, keeper, kept, options, skipped, refused, job, callbacks
            ),
            purchases=purchases,
            engine=engine,
            keeper=keeper,
            options=options,
            state=state,
            callbacks=callbacks,
            provenance=job.provenance,
            progress=progress,
            skipped=skipped,
            refused=refused,
            opened=stack,
        )
        yield move
    if move.is_done and route.encoder is not None and state is not None:
        remove_bought(state, job.key)


def _record(
    source: Source,
    target: str,
    route: Route,
    kept: AnchorSet | None,
    options: MigrateOptions,
    state: Path | None,
) -> MigrationRecord:
    """Return the record of a migration that is begun; ``kept`` are the anchors it keeps."""
    uri, of = source.describe().uri, options.source_encoder
    sha256 = route.made_by.sha256 if route.made_by else None
    return MigrationRecord(
        source=uri,
        target=target,
        belongings=JobInputs(
            source_fingerprint=source.fingerprint() if state else "",
            translator=sha256 or "",
            kept_anchors=None if kept is None else kept.sha256(),
            on_bad_vector=options.on_bad_vector,
            source_encoder=None if of is None else str(of),
            encoding=route.inputs(options),
        ),
        provenance=Provenance(
            vecmigrate_version=version("vecmigrate"),
            source=uri,
            encoder=route.made_for,
            translator_sha256=sha256,
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        ),
    )


@contextmanager
def _saved(
    record: MigrationRecord, state: Path | None, options: MigrateOptions, catches_up: bool
) -> Iterator[Progress]:
    """Keep a migration's progress if there is a state file.

    Raises
    ------
    UsageError
        If there is one, and the translator is no file.
    """
    if state is None:
        yield UnsavedProgress()
        return
    if not (record.belongings.translator or record.belongings.encoding):
        raise UsageError(
            "only a migration by a translator file can be continued",
            remedy="Save the translator, and give its file.",
        )
    with keep_progress(
        state,
        record,
        restart=options.restart,
        every=options.checkpoint_seconds,
        catches_up=catches_up,
    ) as progress:
        yield progress


@dataclass
class Move:
    """A migration that is prepared; :meth:`stream` and :meth:`publish` are called once, in turn.

    Attributes
    ----------
    purchases
        What texts are embedded by; None if they are not.
    provenance
        What the target says of itself; of an earlier run that is continued, that run's.
    skipped
        Gathers the points left out.
    refused
        Gathers the points whose texts the encoder did not take.
    opened
        Closes what is opened at the end.
    is_done
        True once the target is published and compared.
    """

    source: Source
    description: CollectionDescription
    target: str
    converter: Converter
    purchases: Purchases | None
    engine: Engine
    keeper: AnchorKeeper | None
    options: MigrateOptions
    state: Path | None
    callbacks: Callbacks
    provenance: Provenance
    progress: Progress
    skipped: Skipped
    refused: list[PointId]
    opened: ExitStack
    is_done: bool = False

    _sink: Sink | None = None
    _begun: float = 0.0
    _streaming: float = 0.0
    _here: int = 0
    _notes: tuple[str, ...] = ()
    _as_of: str | None = None
    _found_by: FoundBy | None = None
    _work: Conversion = field(init=False)
    _writing_to: Writing = field(init=False)
    _pace: Pace = field(init=False)
    _stages: StageSeconds = field(default_factory=StageSeconds)

    def __post_init__(self) -> None:
        letters = self.options.dead_letters or self._beside("dead-letters", ".jsonl")
        self._letters = DeadLetters(letters or Path("dead-letters.jsonl"), self.provenance.run())
        self._steps = Steps(_log)

    def stream(self) -> None:
        """Write all points that an earlier run has not written; errors as :func:`migrate`."""
        self._begun = time.perf_counter()
        spec, progress = self._spec(), self.progress
        if progress.is_published():
            self.callbacks.announce("an earlier run has published the target already")
            progress.tidy(self.target, spec)
            return
        # A sync compares one vector a point, so that of several none is noted.
        sink = progress.open_sink(
            self.target,
            spec,
            restart=self.options.restart,
            form=None if self.description.multivector else self.source.hash_form,
            native=not self.converter.translates,
        )
        self._sink = self.opened.enter_context(sink)
        if progress.job and progress.job.written:
            done = progress.job.written
            self.callbacks.announce(f"continuing an earlier run after its first {done:,} points")
            self.callbacks.progress(done)
        translates = self.converter.translates
        with progress.suspending(sink):
            if progress.ledger is not None and not progress.written.count:
                # Before the first point is read: what changes from then on may be late.
                begin_by_field(self.source, progress.ledger, self.options.finding)
            for warning in sink.warnings:
                self.callbacks.announce(f"note: {warning}")
            _check_shared(self.description, sink, self.target, asked=self.options.shared_target)
            _check_marks(sink, self.target, mixed=self.purchases is not None and translates)
            _check_keys(self.description, sink, self.target, allowed=self.options.id_with_key)
            self._notes += _left_behind(self.description, sink, self.target)
        self._pace = pace = Pace(self.options.max_rate, self.callbacks.stop)
        work, writing = self._conversion(sink, pace), self._writing(sink, spec)
        self._work, self._writing_to = work, writing
        with (
            progress.suspending(sink),
            self._ending(sink),
            self.engine.written(work, writing) as parts,
        ):
            for part in parts:
                self._here += part.ids.count
                with self._stages.timed_writing():
                    progress.wrote(sink, part, self.skipped)
                if not (self.engine.converts_here and self.converter.tells_progress):
                    self.callbacks.progress(part.read)
                pace.passed(part.read)
                if self.callbacks.stop():
                    raise progress.stopped(sink)
            self._steps.ended("write", points=self._here)
        self._streaming = time.perf_counter() - self._begun

    @contextmanager
    def _ending(self, sink: Sink) -> Iterator[None]:
        """Keep what is written if the converter ends the run.

        Raises
        ------
        TerminatedError
        BudgetSpentError
        """
        try:
            yield
        except StopAskedError:
            raise self.progress.stopped(sink) from None
        except BudgetSpentError:
            self.progress.checkpoint(sink)
            raise

    def publish(self) -> MigrationResult:
        """Publish the target, open it again and compare its ids; errors as :func:`migrate`."""
        sink, progress = self._sink, self.progress
        if sink is not None:
            with progress.suspending(sink), self._ending(sink):
                caught_up = self._caught_up(sink)
                sink.as_of = self._as_of
                progress.publishing(sink)
                left_out = len(set(self.skipped.ids)) + len(self._letters.ids)
                seen = progress.written.count + left_out
                if caught_up is None:
                    self._notes += _check_complete(self.description, sink, seen)
                    ledger = progress.ledger
                    # What a restart found there, a sync has yet to compare.
                    if ledger is not None and not left_out and not ledger.fact("restarted"):
                        note_stamp(ledger, self.source.stamp())
                self._notes += sink.finish().notes
                self._steps.ended("publish")
            if caught_up is not None:
                caught_up.delete_later(self.target, self.provenance.as_of(self._as_of))
                progress.caught_up()
        seconds = time.perf_counter() - self._begun
        found, changed = verify_ids(
            self.target, progress.written, self.options.batch_size, self._ledger_beside(),
            shared=self.options.shared_target,
        )  # fmt: skip
        self._notes += (changed,) if changed else ()
        self._steps.ended("verify", points=progress.written.count)
        progress.done()
        self.is_done = True
        return self._result(found, seconds, in_step=changed is None)

    def _caught_up(self, sink: Sink) -> CatchUp | None:
        """Bring what others changed at the source meanwhile; None if that is not to be done.

        Raises
        ------
        VerificationError
            If the source changed, and nothing tells what of it is written.
        UnsettledError, TerminatedError
        """
        progress = self.progress
        now = progress.source_now()
        # A sync follows, which knows what is others'.
        if sink.in_place or sink.shared or not (now.changed or now.live):
            return None
        if progress.ledger is None or self.options.still:
            if not now.changed:
                return None
            raise VerificationError(
                f"{self.description.uri} changed while it was read",
                remedy="Nothing was published. Keep it still and run again"
                + (", or leave --still out." if self.options.still else "."),
            )
        passes = CatchUp(
            self._work, self._writing_to, progress.ledger, progress, self._pace,
            self.options.settle, self.options.finding, self.callbacks.stop,
        )  # fmt: skip
        last = passes.settled()
        self._as_of, self._found_by = last.as_of, last.found_by
        progress.caught_up()
        return passes

    def _spec(self) -> TargetSpec:
        job = self.progress.job
        return TargetSpec.like(
            self.description,
            dimension=self.converter.dimension,
            provenance=self.provenance,
            keep_limits=self.options.keep_limits,
            work=job.work if job else None,
            shared=self.options.shared_target,
        )

    def _conversion(self, sink: Sink, pace: Pace) -> Conversion:
        job, text = self.progress.job, self.description.text_field
        fields = tuple(name for name in (text,) if name is not None) if sink.in_place else None
        return Conversion(
            source=self.source,
            converter=self.converter
            if self.progress.ledger is None
            else HashingConverter(self.converter, fields),
            on_bad_vector=self.options.on_bad_vector,
            batch_size=pace.batch_size(self.options.batch_size),
            cursor=job.cursor if job else None,
            skipped=self.skipped,
            folder=self._beside("parts"),
            identity=job.belongings.model_dump_json() if job else "",
            absent=sink.absent,
            restart=self.options.restart,
            announce=self.callbacks.announce,
            stages=self._stages,
            spent=self._note_spent,
        )

    def _note_spent(self, spent: Spent) -> None:
        """Put on the account what a worker has bought."""
        self.refused.extend(spent.refused)
        if self.purchases is not None and spent.texts:
            self.purchases.note(spent.part, spent.texts, spent.tokens)

    def _writing(self, sink: Sink, spec: TargetSpec) -> Writing:
        return Writing(
            sink,
            self.target,
            spec,
            PointWriter(
                sink, self._letters, self.options.on_bad_point, self.options.max_dead_letters
            ),
            self.keeper,
            paced=self.options.max_rate is not None,
            stages=self._stages,
        )

    def _beside(self, kind: str, suffix: str = "") -> Path | None:
        """Return where things of a kind are kept for this job; None if nothing is kept."""
        if self.state is None or self.progress.job is None:
            return None
        return self.state.parent / kind / f"{self.progress.job.key}{suffix}"

    def _ledger_beside(self) -> Path | None:
        """Return the state file beside which a ledger is to be begun."""
        job = self.progress.job
        begins = job is not None and job.status is not MigrationStatus.DONE
        begins = begins and self.progress.ledger is None
        # Without texts, what an anchor was made from is not known, and its vector is left alone.
        knows_anchors = self.keeper is None or self.description.text_field is not None
        return self.state if begins and knows_anchors else None

    def _native(self) -> int:
        """Count the points that others had written at a shared target."""
        ledger = self.progress.ledger
        if ledger is None or not self.options.shared_target:
            return 0
        return ledger.origins()[Origin.FOREIGN]

    def _embedded(self) -> Embedded | None:
        """Return what embedding took; None for ready-made vectors, too."""
        encoder = None if self.purchases is None else self.purchases.encoder
        return Embedded.of(encoder) if encoder is not None and encoder.needs_texts else None

    def _result(
        self, found: CollectionDescription, seconds: float, *, in_step: bool
    ) -> MigrationResult:
        written, letters = self.progress.written.count, self._letters
        # What was read ahead of a kill is read, and may be skipped, again.
        left_out = list(dict.fromkeys(self.skipped.ids))
        return MigrationResult(
            source=self.description,
            target=found,
            read=written + len(left_out) + len(letters.ids),
            written=written,
            continued_after=written - self._here,
            kept_anchors=self.progress.kept_anchors,
            skipped_ids=left_out,
            refused_ids=list(dict.fromkeys(self.refused)),
            quarantined_ids=letters.ids,
            dead_letters=str(letters.path) if letters.ids else None,
            seconds=seconds,
            streaming_seconds=self._streaming,
            indexing_seconds=seconds - self._streaming,
            vectors_per_second=self._here / self._streaming if self._streaming else 0.0,
            stages=self._stages,
            notes=tuple(note for note in self._notes if note not in found.notes),
            as_of=self._as_of,
            found_by=self._found_by,
            native=self._native(),
            in_step=in_step,
            embedded=self._embedded(),
        )


def _left_behind(source: CollectionDescription, sink: Sink, target: str) -> tuple[str, ...]:
    """Return what a sink that knows vectors and payloads alone leaves behind.

    Raises
    ------
    MismatchError
        If that is too much.
    """
    if sink.whole_points:
        return ()
    if source.multivector:
        raise MismatchError(
            f"the points of {source.uri} have several vectors each, and {target} holds one a point",
            remedy="Name a target of the same store.",
        )
    if not source.other_vectors:
        return ()
    names = ", ".join(map(repr, source.other_vectors))
    return (f"the named vectors {names} are not copied: {target} holds one vector a point",)


def _check_shared(source: CollectionDescription, sink: Sink, target: str, *, asked: bool) -> None:
    """Raise :class:`MismatchError` if a target is to be shared and cannot be."""
    if asked and not sink.shared:
        raise MismatchError(
            f"the store of {target} cannot tell points of others from those that are moved, or "
            "write beside them",
            remedy="Leave --shared-target out, and let applications write there from the cutover "
            "on.",
        )
    if asked and source.multivector:
        raise MismatchError(
            f"the points of {source.uri} have several vectors each, by which none is known again",
            remedy="Leave --shared-target out.",
        )


def _check_marks(sink: Sink, target: str, *, mixed: bool) -> None:
    """Raise :class:`MismatchError` if nothing would tell native vectors from translated ones."""
    if mixed and sink.in_place:
        raise MismatchError(
            f"the points of {target} are the source's own and keep no mark of whose vector they "
            "have, by which verify knows the encoder's",
            remedy="Migrate to a new collection, or embed all points.",
        )


def _check_keys(source: CollectionDescription, sink: Sink, target: str, *, allowed: bool) -> None:
    """Raise :class:`MismatchError` if points that a key tells apart would become one."""
    if source.keyed_ids and not sink.keyed_ids and not allowed:
        raise MismatchError(
            f"an id of {source.uri} is unique within a shard key only, and {target} knows no "
            "shard keys",
            remedy="Name a target of the same store, or have ids written as KEY/ID by "
            "--id-with-key.",
        )


def _check_complete(source: CollectionDescription, sink: Sink, seen: int) -> tuple[str, ...]:
    """Compare the points that were written or left out with what the source says that it holds.

    Of points that are the source's own it may hold more or fewer by now.

    Raises
    ------
    VerificationError
        If there are more or fewer.
    """
    if not source.count_is_exact:
        return (f"{source.uri} does not count its points: their number was not compared",)
    expected = source.count
    if sink.absent is Absent.PASSED_OVER:
        expected -= source.without_vector
    if seen != expected and not (sink.in_place or sink.shared):
        raise VerificationError(
            f"{source.uri} holds {expected:,} points, and {seen:,} were written or left out",
            remedy="Nothing was published. Keep the source still and run again; if this comes "
            "back, report it.",
        )
    return ()


def _keeper(
    anchors: AnchorSet | None, card: TranslatorCard | None, source: CollectionDescription
) -> AnchorKeeper | None:
    if anchors is None:
        return None
    if card is None:
        raise UsageError(
            "anchors are kept beside the translations of a translator file only, which knows the "
            "scale of their scores",
            remedy="Save the translator, and give its file.",
        )
    if source.multivector:
        raise UsageError(
            f"the points of {source.uri} have several vectors each, and an anchor has one",
            remedy="Migrate without --keep-anchors.",
        )
    return AnchorKeeper(anchors, card, source.text_field)


def verify_ids(
    target: str,
    written: IdFingerprint,
    batch_size: int,
    state: Path | None = None,
    *,
    shared: bool = False,
) -> tuple[CollectionDescription, str | None]:
    """Open ``target`` again and compare its ids with those written.

    On points that are the source's own, or of a shared target, others may have written since: that
    is told, beside the description, and no error.

    Parameters
    ----------
    state
        The state file, beside which the ledger of a vector that was added in place is begun.

    Raises
    ------
    VerificationError
    """
    found = IdFingerprint()
    with open_source(target) as reader:
        description = reader.describe()
        if shared:
            return description, "others write to the target too: sync follows"
        if description.in_place and not description.multivector:
            begun = (
                nullcontext(lambda batch: None)
                if state is None
                else begun_ledger(state, target, reader.rounding())
            )
            with begun as note:
                for batch in reader.batches(batch_size, payloads=False):
                    found.add(batch.ids)
                    note(batch)
        else:
            for ids in reader.ids(batch_size):
                found.add(ids)
    if found != written:
        what = (
            f"{found.count} points instead of {written.count}"
            if found.count != written.count
            else f"{found.count} points with other ids than the source's"
        )
        if description.in_place:
            return description, f"{what} have the vector: others wrote meanwhile, and sync follows"
        raise VerificationError(
            f"{target} holds {what}",
            remedy="Do not use it. Look for ids that occur twice in the source or for another "
            "writer of the target, delete the target and migrate again.",
        )
    return description, None
