"""Source to target: stream, translate, write, verify."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from vecmigrate.anchors import AnchorSet, load_anchors
from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.registry import open_source
from vecmigrate.connector.sink import Sink
from vecmigrate.connector.source import Source
from vecmigrate.errors import MismatchError, UsageError, VerificationError
from vecmigrate.migration.dead_letters import MAX_DEAD_LETTERS, DeadLetters, OnBadPoint, PointWriter
from vecmigrate.migration.engines import Engine, LocalEngine, Translation
from vecmigrate.migration.progress import Progress, UnsavedProgress, keep_progress
from vecmigrate.migration.translate import StageSeconds
from vecmigrate.migration.write import Pace, Writing
from vecmigrate.points.batch import PointId
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import (
    CollectionDescription,
    EncoderIdentity,
    Provenance,
    TargetSpec,
)
from vecmigrate.points.screening import Absent, OnBadVector, Skipped
from vecmigrate.state.ledger import begun_ledger
from vecmigrate.state.migrations import JobInputs, MigrationRecord, MigrationStatus
from vecmigrate.telemetry.events import Steps
from vecmigrate.translators import (
    Translator,
    TranslatorCard,
    load_translator,
    read_card,
)
from vecmigrate.translators import translator_sha256 as file_sha256
from vecmigrate.translators.file import check_translator

_log = logging.getLogger(__name__)

BATCH_SIZE = 4096
CHECKPOINT_SECONDS = 5.0

OnProgress = Callable[[int], None]
"""Called with the number of points just done."""


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
        Points left out for a bad vector.
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
    in_step
        False if others wrote to the points that got the vector in place: a sync is to follow.
    """

    source: CollectionDescription
    target: CollectionDescription
    read: int
    written: int
    continued_after: int = 0
    kept_anchors: int
    skipped_ids: list[PointId]
    quarantined_ids: list[PointId] = []
    dead_letters: str | None = None
    seconds: float
    streaming_seconds: float
    indexing_seconds: float
    vectors_per_second: float
    stages: StageSeconds
    notes: tuple[str, ...] = ()
    in_step: bool = True

    def counts(self) -> dict[str, int]:
        """Return the points by what was done with them, as a record of the run keeps it."""
        return {
            "read": self.read,
            "written": self.written,
            "skipped": len(self.skipped_ids),
            "quarantined": len(self.quarantined_ids),
            "kept_anchors": self.kept_anchors,
        }


def migrate(
    source: str | Source,
    target: str,
    translator: Translator | str | Path,
    *,
    keep_anchors: AnchorSet | str | Path | None = None,
    source_encoder: EncoderIdentity | str | None = None,
    batch_size: int = BATCH_SIZE,
    on_bad_vector: OnBadVector | str = OnBadVector.FAIL,
    on_bad_point: OnBadPoint | str = OnBadPoint.FAIL,
    dead_letters: str | Path | None = None,
    max_dead_letters: int = MAX_DEAD_LETTERS,
    id_with_key: bool = False,
    keep_limits: bool = False,
    restart: bool = False,
    state: str | Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    max_rate: float | None = None,
    engine: Engine | None = None,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda line: None,
    progress: OnProgress | None = None,
) -> MigrationResult:
    """Write ``source``'s points, translated, to a new collection at ``target`` and verify it.

    Reading and writing run in a thread each and translating in one a processor (all but writing may
    run on another ``engine``), a few batches apart; memory is bounded by ``batch_size`` and their
    number, beyond what the target's store itself must hold.

    Parameters
    ----------
    source
        A URI, or an open source (left open).
    target
        A URI where nothing is yet.
    translator
        A fitted one, or a file that :func:`save_translator` wrote.
    keep_anchors
        Anchors whose true vectors are to be kept instead of their translations; each point's
        payload then tells its origin, see :class:`AnchorKeeper`. Needs a translator file.
    source_encoder
        The encoder that made the source's vectors (its identity, or its name), checked against the
        translator's.
    on_bad_vector
        ``fail`` stops at NaN, infinite or zero vectors; ``skip`` leaves them out and lists them.
    on_bad_point
        ``fail`` stops at a point that the target's store refuses; ``quarantine`` puts it into the
        file ``dead_letters`` and goes on.
    dead_letters
        By default named by the job, in ``dead-letters/`` beside the state file.
    max_dead_letters
        Refused points beyond which the run stops all the same.
    id_with_key
        Write ids as ``KEY/ID`` to a store that does not know the source's keys, within which alone
        its ids are unique; without it such a target is refused.
    keep_limits
        Refuse a target for which size limits copied from the source are too small, instead of
        raising them with the dimension.
    restart
        Throw away what an earlier, unfinished run left at the target.
    state
        The state file. With it the migration can be continued: killed at any instant, the same call
        goes on from the last durable batch, with the same outcome. Needs a translator file.
    checkpoint_seconds
        How often to make durable what was written, at most.
    max_rate
        Points a second to write at most, for a server that has readers too; batches then hold no
        more than a second's.
    stop
        Asked after each batch; True saves, leaves the target unfinished and raises.
    announce
        Called with a line for a person, as when an earlier run is continued.

    Raises
    ------
    LockedError
        Where another run is doing the same.
    TerminatedError
        Where ``stop`` said so.
    MismatchError
        Where the translator was fitted for another dimension or encoder; nothing is written.
    TargetExistsError
        Where the target is there.
    RefusedError
        Where the target's store refuses a point; names it.
    BadVectorError
        Where a vector is not usable; nothing is published.
    VerificationError
        Where the new collection's ids are not the source's, or the source changed meanwhile.
    InputError, UsageError, UnreachableError, WriteError
        From the stores.
    """
    policy = OnBadVector(on_bad_vector)
    engine = engine or LocalEngine()
    card: TranslatorCard | None = None
    sha256 = None
    if not isinstance(translator, Translator):
        card, sha256 = read_card(translator), file_sha256(translator)
        translator = load_translator(translator)
    with ExitStack() as stack:
        reader = stack.enter_context(open_source(source)) if isinstance(source, str) else source
        description = reader.describe()
        check_translator(description, translator, card, source_encoder)
        engine.check(reader)
        anchors = keep_anchors
        if isinstance(anchors, (str, Path)):
            anchors = load_anchors(anchors)
        keeper = _keeper(anchors, card, description.text_field)
        if keeper is not None and description.multivector:
            raise UsageError(
                f"the points of {description.uri} have several vectors each, and an anchor has one",
                remedy="Migrate without --keep-anchors.",
            )
        provenance = Provenance(
            vecmigrate_version=version("vecmigrate"),
            source=description.uri,
            encoder=card.target_encoder if card else None,
            translator_sha256=sha256,
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        kept: Progress = UnsavedProgress()
        if state is not None:
            kept = stack.enter_context(
                keep_progress(
                    Path(state),
                    MigrationRecord(
                        source=description.uri,
                        target=target,
                        belongings=JobInputs(
                            source_fingerprint=reader.fingerprint(),
                            translator=_require_file(sha256),
                            kept_anchors=None if anchors is None else anchors.sha256(),
                            on_bad_vector=policy,
                            source_encoder=None if source_encoder is None else str(source_encoder),
                        ),
                        provenance=provenance,
                    ),
                    restart=restart,
                    every=checkpoint_seconds,
                )
            )
        job = kept.job
        if job is not None:
            provenance = job.provenance
        spec = TargetSpec.like(
            description,
            dimension=translator.target_dim_,
            provenance=provenance,
            keep_limits=keep_limits,
            work=job.work if job else None,
        )
        letters = DeadLetters(
            Path(dead_letters) if dead_letters else _letters_of(state, job),
            provenance.run(),
        )
        begun = time.perf_counter()
        steps = Steps(_log)
        here = 0
        streaming = 0.0
        stages = StageSeconds()
        notes: tuple[str, ...] = ()
        if not kept.is_published():
            sink = stack.enter_context(kept.open_sink(target, spec, restart=restart))
            if job and job.written:
                announce(f"continuing an earlier run after its first {job.written:,} points")
                if progress is not None:
                    progress(job.written)
            skipped = Skipped(ids=list(job.skipped_ids) if job else [])
            written = kept.written
            writer = PointWriter(sink, letters, OnBadPoint(on_bad_point), max_dead_letters)
            pace = Pace(max_rate, stop)
            work = Translation(
                source=reader,
                translator=translator,
                text_field=description.text_field,
                on_bad_vector=policy,
                batch_size=pace.batch_size(batch_size),
                cursor=job.cursor if job else None,
                skipped=skipped,
                folder=_beside(state, job, "parts"),
                identity=job.belongings.model_dump_json() if job else "",
                absent=sink.absent,
                restart=restart,
                announce=announce,
                stages=stages,
            )
            with kept.suspending(sink):
                for warning in sink.warnings:
                    announce(f"note: {warning}")
                _check_keys(description, sink, target, allowed=id_with_key)
                notes = _left_behind(description, sink, target)
            writing = Writing(
                sink, target, spec, writer, keeper, paced=max_rate is not None, stages=stages
            )
            with kept.suspending(sink), engine.written(work, writing) as parts:
                for part in parts:
                    here += part.ids.count
                    with stages.timed_writing():
                        kept.wrote(sink, part, skipped)
                    if progress is not None:
                        progress(part.read)
                    pace.passed(part.read)
                    if stop():
                        raise kept.stopped(sink)
                steps.ended("write", points=here)
            streaming = time.perf_counter() - begun
            with kept.suspending(sink):
                kept.publishing(sink)
                seen = written.count + len(set(skipped.ids)) + len(letters.ids)
                notes += _check_complete(description, sink, seen)
                notes += sink.finish().notes
                steps.ended("publish")
        else:
            announce("an earlier run has published the target already")
            kept.tidy(target, spec)
            written, skipped = kept.written, Skipped(ids=job.skipped_ids if job else [])
        seconds = time.perf_counter() - begun
        begins = state is not None and job is not None and job.status is not MigrationStatus.DONE
        # Without texts, what an anchor was made from is not known, and its vector is left alone.
        begins &= keeper is None or description.text_field is not None
        found, changed = verify_ids(
            target, written, batch_size, Path(state) if begins and state else None
        )
        notes += (changed,) if changed else ()
        steps.ended("verify", points=written.count)
        kept.done()
    # What was read ahead of a kill is read, and may be skipped, again.
    left_out = list(dict.fromkeys(skipped.ids))
    return MigrationResult(
        source=description,
        target=found,
        read=written.count + len(left_out) + len(letters.ids),
        written=written.count,
        continued_after=written.count - here,
        kept_anchors=kept.kept_anchors,
        skipped_ids=left_out,
        quarantined_ids=letters.ids,
        dead_letters=str(letters.path) if letters.ids else None,
        seconds=seconds,
        streaming_seconds=streaming,
        indexing_seconds=seconds - streaming,
        vectors_per_second=here / streaming if streaming else 0.0,
        stages=stages,
        notes=tuple(note for note in notes if note not in found.notes),
        in_step=changed is None,
    )


def _left_behind(source: CollectionDescription, sink: Sink, target: str) -> tuple[str, ...]:
    """Return what a sink that knows vectors and payloads alone leaves behind.

    Raises
    ------
    MismatchError
        Where that is too much.
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
    if seen != expected and not sink.in_place:
        raise VerificationError(
            f"{source.uri} holds {expected:,} points, and {seen:,} were written or left out",
            remedy="Nothing was published. Keep the source still and run again; if this comes "
            "back, report it.",
        )
    return ()


def _beside(state: str | Path | None, job: MigrationRecord | None, kind: str) -> Path | None:
    """Return where a job's own things of a kind are; None for one that is not kept."""
    if state is None or job is None:
        return None
    return Path(state).parent / kind / job.key


def _letters_of(state: str | Path | None, job: MigrationRecord | None) -> Path:
    named = _beside(state, job, "dead-letters")
    return named.with_suffix(".jsonl") if named else Path("dead-letters.jsonl")


def _require_file(sha256: str | None) -> str:
    if sha256 is None:
        raise UsageError(
            "only a migration by a translator file can be continued",
            remedy="Save the translator, and give its file.",
        )
    return sha256


def _keeper(
    anchors: AnchorSet | None, card: TranslatorCard | None, text_field: str | None
) -> AnchorKeeper | None:
    if anchors is None:
        return None
    if card is None:
        raise UsageError(
            "anchors are kept beside the translations of a translator file only, which knows the "
            "scale of their scores",
            remedy="Save the translator, and give its file.",
        )
    return AnchorKeeper(anchors, card, text_field)


def verify_ids(
    target: str, written: IdFingerprint, batch_size: int, state: Path | None = None
) -> tuple[CollectionDescription, str | None]:
    """Open ``target`` again and compare its ids with those written.

    On points that are the source's own others may have written since: that is told, beside the
    description, and no error.

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
        if state is not None and description.in_place and not description.multivector:
            with begun_ledger(state, target) as note:
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
