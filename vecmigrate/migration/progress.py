"""Keeps a migration's progress, so that a killed one is continued and not begun again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vecmigrate.connector.addresses import canonical_place, followed_place
from vecmigrate.connector.registry import open_sink, open_source, resume_sink
from vecmigrate.connector.sink import Sink
from vecmigrate.errors import (
    InputError,
    LockedError,
    MismatchError,
    TargetExistsError,
    TerminatedError,
    UsageError,
    VerificationError,
    WriteError,
)
from vecmigrate.migration.write import Written
from vecmigrate.points.checksums import IN_PLACE_FORM, IdFingerprint
from vecmigrate.points.collection import TargetSpec
from vecmigrate.points.screening import Skipped
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock
from vecmigrate.state.ledger import HASH_RULE, Ledger, Origin, ledger_key, ledger_path, open_ledger
from vecmigrate.state.migrations import MigrationRecord, MigrationStatus, MigrationTable
from vecmigrate.telemetry.events import CHECKPOINT, POINTS, log_event

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceNow:
    """What a source is when it has been read.

    Attributes
    ----------
    changed
        True if it is seen not to be what it was at the start.
    live
        See :attr:`Source.live`: it may have changed though that is not seen.
    """

    changed: bool
    live: bool


class Progress(Protocol):
    """What a migration tells of its progress, kept or not.

    Attributes
    ----------
    job
        The record; None if nothing is kept.
    written
        Ids written so far, by earlier runs too.
    kept_anchors
        Points written with the new encoder's own vector.
    ledger
        What is told of each point that is written; None if nothing is.
    """

    job: MigrationRecord | None
    written: IdFingerprint
    kept_anchors: int
    ledger: Ledger | None

    def is_published(self) -> bool:
        """True if an earlier run of this job has published the target already."""
        ...

    def tidy(self, target: str, spec: TargetSpec) -> None:
        """Remove what an earlier run may have left beside the target that it published."""
        ...

    def open_sink(
        self, target: str, spec: TargetSpec, *, restart: bool, form: str | None, native: bool
    ) -> Sink:
        """Begin the target, or continue it.

        Parameters
        ----------
        form
            The source's :attr:`Source.hash_form`, by which a ledger is begun with the target if
            progress is kept; None for no ledger.
        native
            True if no vector is translated. A vector that is added in place then has a ledger from
            the start, since nothing but that tells from which text it was made.
        """
        ...

    def wrote(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        """Take note of points that were written."""
        ...

    def stopped(self, sink: Sink) -> TerminatedError:
        """Make all of it durable and return what to raise for a run that is asked to end."""
        ...

    def suspending(self, sink: Sink) -> AbstractContextManager[None]:
        """A context whose failure leaves the target to be continued, if it can be."""
        ...

    def wrote_again(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        """Take note of points that were written, of which some were known already."""
        ...

    def checkpoint(self, sink: Sink) -> None:
        """Make all of it durable."""
        ...

    def source_now(self) -> SourceNow:
        """Look at the source again."""
        ...

    def publishing(self, sink: Sink) -> None:
        """Take note that all is written and the target is about to be published."""
        ...

    def caught_up(self) -> None:
        """Count anew what is written, by the ledger."""
        ...

    def done(self) -> None:
        """Take note that the target is published and verified."""
        ...


class UnsavedProgress:
    """Progress that is not kept: what fails is begun again."""

    job: MigrationRecord | None = None
    ledger: Ledger | None = None

    def __init__(self) -> None:
        self.written = IdFingerprint()
        self.kept_anchors = 0

    def is_published(self) -> bool:
        return False

    def tidy(self, target: str, spec: TargetSpec) -> None: ...

    def open_sink(
        self, target: str, spec: TargetSpec, *, restart: bool, form: str | None, native: bool
    ) -> Sink:
        return open_sink(target, spec, restart=restart)

    def wrote(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        self.written.join(done.ids)
        self.kept_anchors += done.kept_anchors

    def stopped(self, sink: Sink) -> TerminatedError:
        return _stopped_for_good(self.written)

    def suspending(self, sink: Sink) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote_again(self, sink: Sink, done: Written, skipped: Skipped) -> None: ...

    def checkpoint(self, sink: Sink) -> None: ...

    def source_now(self) -> SourceNow:
        return SourceNow(changed=False, live=False)

    def publishing(self, sink: Sink) -> None: ...

    def caught_up(self) -> None: ...

    def done(self) -> None: ...


class SavedProgress:
    """Progress that is kept in a job table, and a ledger that is begun with the target.

    Parameters
    ----------
    begin_ledger
        Opens the ledger; called if there is something to note.
    """

    def __init__(
        self,
        table: MigrationTable,
        job: MigrationRecord,
        every: float,
        begin_ledger: Callable[[], Ledger],
    ) -> None:
        self.job: MigrationRecord | None = job
        self.ledger: Ledger | None = None
        self._begin_ledger = begin_ledger
        self._knows_ours = False
        self.written = IdFingerprint(job.written, job.id_total)
        self.kept_anchors = job.kept_anchors
        self._kept = job
        self._table = table
        self._every = every
        self._begun = self._last = time.monotonic()
        self._before = job.written
        self._cursor = job.cursor
        self._skipped = Skipped(ids=list(job.skipped_ids))

    def is_published(self) -> bool:
        return self._kept.status is not MigrationStatus.RUNNING and _is_there(self._kept)

    def tidy(self, target: str, spec: TargetSpec) -> None:
        token = self._kept.token
        if token is not None and self._kept.status is MigrationStatus.PUBLISHING:
            with suppress(TargetExistsError):
                resume_sink(target, spec, token).suspend()

    def open_sink(
        self, target: str, spec: TargetSpec, *, restart: bool, form: str | None, native: bool
    ) -> Sink:
        if self._kept.token is not None:
            sink = resume_sink(target, spec, self._kept.token)
            form = IN_PLACE_FORM if sink.in_place else form
            self.ledger = self._begin_ledger() if self._kept.ledger else None
            self._knows_ours = self.ledger is not None and bool(self.ledger.fact("restarted"))
            if self.ledger is not None:
                self._note_continued(self.ledger, form, sink)
            return sink
        # Before anything is made, so that what a kill leaves there is known to be this job's.
        before = self._table.find(self._kept.source, self._kept.target)
        self._save(token=None)
        if spec.shared and form is not None:
            # What an earlier run left among the points of others, only its ledger tells.
            self.ledger = self._begin_ledger()
            self._knows_ours = bool(self.ledger.fact("shared"))
            restart = restart and self._knows_ours
        try:
            sink = open_sink(target, spec, restart=restart)
        except (UsageError, MismatchError, TargetExistsError, LockedError):
            if before is None:
                self._table.forget(self._kept.source, self._kept.target)
            else:
                self._table.save(before)
            raise
        with self.suspending(sink):
            # What is added in place is known by reading it, since others may write there too.
            if form is not None and (native or not sink.in_place):
                form = IN_PLACE_FORM if sink.in_place else form
                if self.ledger is None:
                    self.ledger = self._begin_ledger()
                self.ledger.begin(keep_points=self._knows_ours)
                self._note_inputs(self.ledger, form, shared=sink.shared)
                self.ledger.note(restarted=self._knows_ours)
            self.checkpoint(sink)
        return sink

    def _note_continued(self, ledger: Ledger, form: str | None, sink: Sink) -> None:
        ours = not (sink.in_place or sink.shared)
        if ledger.fact("source") is None and form is not None and ours:
            # It was lost: what it knew of points that vanish from now on, nothing tells.
            self._note_inputs(ledger, form, shared=sink.shared)
            ledger.note(was_lost=True)
        if ledger.fact("form") != form:
            ledger.note(form=None)

    def _note_inputs(self, ledger: Ledger, form: str, *, shared: bool) -> None:
        inputs = self._kept.belongings
        ledger.note(
            source=followed_place(self._kept.source), rule=HASH_RULE, form=form,
            anchors=inputs.kept_anchors,
            marked=inputs.kept_anchors is not None or inputs.encoding is not None,
            shared=shared,
        )  # fmt: skip

    def wrote(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        self.written.join(done.ids)
        self.kept_anchors += done.kept_anchors
        self._cursor = done.cursor
        self.wrote_again(sink, done, skipped)

    def wrote_again(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        self._skipped = skipped
        if self.ledger is not None and done.moved is not None:
            self.ledger.take_down(done.moved, keep_known=self._knows_ours)
        if time.monotonic() - self._last >= self._every:
            self.checkpoint(sink)

    def caught_up(self) -> None:
        if self.ledger is not None:
            self.written = self.ledger.fingerprint()
            self.kept_anchors = self.ledger.origins()[Origin.ENCODED]

    def stopped(self, sink: Sink) -> TerminatedError:
        self.checkpoint(sink)
        if self._kept.token is None:
            return _stopped_for_good(self.written)
        return TerminatedError(
            f"stopped after {self.written.count:,} points, which are kept",
            remedy="Run the same command to continue.",
        )

    def checkpoint(self, sink: Sink) -> None:
        # First the data, then the ledger, which may know more than the record but not less: points
        # before the record's cursor are not read again. A kill in between writes the data again.
        token = sink.checkpoint()
        self._last = time.monotonic()
        if self.ledger is not None:
            self.ledger.commit()
        if token is None:
            return
        self._save(token=token)
        points, seconds = self.written.count, self._last - self._begun
        rate = round((points - self._before) / seconds, 1) if seconds else None
        log_event(
            _log,
            logging.INFO,
            CHECKPOINT,
            f"{points:,} points are durable",
            {POINTS: points, "vecmigrate.points_per_second": rate},
        )

    @contextmanager
    def suspending(self, sink: Sink) -> Iterator[None]:
        try:
            yield
        except (MismatchError, VerificationError):
            # These come back however often the run is continued: it has to be begun otherwise.
            self._give_up(sink)
            raise
        except BaseException as error:
            if self._kept.token is None or (
                isinstance(error, InputError) and not self._kept.written
            ):
                self._give_up(sink)
            else:
                sink.suspend()
            raise

    def _give_up(self, sink: Sink) -> None:
        """Remove the unfinished target, then the record of it."""
        try:
            # A kill while it is being removed must not leave a record of what is not there.
            self._save(token=None)
        except WriteError:
            sink.suspend()
            return
        sink.abort()
        self._table.forget(self._kept.source, self._kept.target)

    def source_now(self) -> SourceNow:
        # Opened anew: an open source may go on to show what it was.
        with open_source(self._kept.source) as again:
            changed = again.fingerprint() != self._kept.belongings.source_fingerprint
            return SourceNow(changed=changed, live=again.live)

    def publishing(self, sink: Sink) -> None:
        self.checkpoint(sink)
        if self.ledger is not None:
            self.ledger.leave_out(self._skipped.ids, self._skipped.as_read)
        made = self._kept.provenance.as_of(sink.as_of)
        self._save(status=MigrationStatus.PUBLISHING, provenance=made)

    def done(self) -> None:
        self._save(status=MigrationStatus.DONE)

    def _save(self, **changes: object) -> None:
        now = {
            "cursor": self._cursor,
            "written": self.written.count,
            "id_total": self.written.total,
            "kept_anchors": self.kept_anchors,
            "skipped_ids": list(dict.fromkeys(self._skipped.ids)),
            "ledger": self.ledger is not None,
        }
        self._kept = self._kept.model_copy(update={**now, **changes})
        self._table.save(self._kept)


@contextmanager
def keep_progress(
    state: Path, job: MigrationRecord, *, restart: bool, every: float, catches_up: bool
) -> Iterator[SavedProgress]:
    """Keep ``job`` in the state file, or continue what is there of it, one run at a time.

    Parameters
    ----------
    every
        Seconds from one checkpoint to the next, at least.
    catches_up
        True if a source that changed since is no reason not to continue.

    Raises
    ------
    LockedError
        If another run has it.
    MismatchError
        If the job was begun with other things, and ``restart`` is False.
    """
    locks, what = state.parent / "locks", f"{job.source} to {job.target}"
    with ExitStack() as stack:
        for key in (job.key, ledger_key(job.target, canonical_place)):
            stack.enter_context(job_lock(locks, key, what))
        table = MigrationTable(stack.enter_context(closing(open_state(state))))
        found = None if restart else table.find(job.source, job.target)
        job = _continued(found, job, catches_up) if found else job
        ledger = open_ledger(ledger_path(state, job.target, canonical_place))
        yield SavedProgress(table, job, every, lambda: stack.enter_context(ledger))


def _continued(found: MigrationRecord, job: MigrationRecord, catches_up: bool) -> MigrationRecord:
    """Return what to go on with: an earlier run's job, or a new one.

    Raises
    ------
    MismatchError
        If the earlier run is unfinished and was begun with other things.
    """
    if catches_up and found.ledger and found.status is not MigrationStatus.DONE:
        seen = job.belongings.source_fingerprint
        update = {"belongings": found.belongings.model_copy(update={"source_fingerprint": seen})}
        found = found.model_copy(update=update)
    changed = found.differences(job.belongings)
    # The same collections may be named from another directory now.
    found = found.model_copy(
        update={"source": job.source, "target": job.target, "belongings": job.belongings}
    )
    if found.status is not MigrationStatus.RUNNING and _is_there(found):
        return job if changed else found
    if found.status is MigrationStatus.DONE:
        return job
    if found.token is None:
        # Killed before the first checkpoint; the same provenance lets it begin anew.
        return job if changed else job.model_copy(update={"provenance": found.provenance})
    if changed:
        raise MismatchError(
            f"the unfinished migration of {job.source} to {job.target} was begun with other "
            f"things ({', '.join(changed)})",
            remedy="Put them back to continue, or start over with --restart.",
        )
    return found


def _is_there(job: MigrationRecord) -> bool:
    """True if the target is the one that this job published."""
    try:
        with open_source(job.target) as reader:
            return reader.describe().provenance == job.provenance
    except InputError:
        return False


def _stopped_for_good(written: IdFingerprint) -> TerminatedError:
    return TerminatedError(
        f"stopped after {written.count:,} points, which are not kept",
        remedy="Run the same command to begin anew.",
    )
