"""Keeps a migration's progress, so that a killed one is continued and not begun again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

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
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import TargetSpec
from vecmigrate.points.screening import Skipped
from vecmigrate.state import open_state
from vecmigrate.state.file import job_lock
from vecmigrate.state.migrations import MigrationRecord, MigrationStatus, MigrationTable
from vecmigrate.telemetry.events import CHECKPOINT, POINTS, log_event

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """What a migration tells of its progress, kept or not.

    Attributes
    ----------
    job
        The record; None if nothing is kept.
    written
        Ids written so far, by earlier runs too.
    kept_anchors
        Points written with an anchor's true vector.
    """

    job: MigrationRecord | None
    written: IdFingerprint
    kept_anchors: int

    def is_published(self) -> bool:
        """True if an earlier run of this job has published the target already."""
        ...

    def tidy(self, target: str, spec: TargetSpec) -> None:
        """Remove what an earlier run may have left beside the target that it published."""
        ...

    def open_sink(self, target: str, spec: TargetSpec, *, restart: bool) -> Sink:
        """Begin the target, or continue it."""
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

    def publishing(self, sink: Sink) -> None:
        """Take note that all is written and the target is about to be published.

        Raises
        ------
        VerificationError
            If the source is not what it was at the start.
        """
        ...

    def done(self) -> None:
        """Take note that the target is published and verified."""
        ...


class UnsavedProgress:
    """Progress that is not kept: what fails is begun again."""

    job: MigrationRecord | None = None

    def __init__(self) -> None:
        self.written = IdFingerprint()
        self.kept_anchors = 0

    def is_published(self) -> bool:
        return False

    def tidy(self, target: str, spec: TargetSpec) -> None: ...

    def open_sink(self, target: str, spec: TargetSpec, *, restart: bool) -> Sink:
        return open_sink(target, spec, restart=restart)

    def wrote(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        self.written.join(done.ids)
        self.kept_anchors += done.kept_anchors

    def stopped(self, sink: Sink) -> TerminatedError:
        return _stopped_for_good(self.written)

    def suspending(self, sink: Sink) -> AbstractContextManager[None]:
        return nullcontext()

    def publishing(self, sink: Sink) -> None: ...

    def done(self) -> None: ...


class SavedProgress:
    """Progress that is kept in a job table."""

    def __init__(self, table: MigrationTable, job: MigrationRecord, every: float) -> None:
        self.job: MigrationRecord | None = job
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

    def open_sink(self, target: str, spec: TargetSpec, *, restart: bool) -> Sink:
        if self._kept.token is not None:
            return resume_sink(target, spec, self._kept.token)
        # Before anything is made, so that what a kill leaves there is known to be this job's.
        before = self._table.find(self._kept.source, self._kept.target)
        self._save(token=None)
        try:
            sink = open_sink(target, spec, restart=restart)
        except (UsageError, MismatchError, TargetExistsError, LockedError):
            if before is None:
                self._table.forget(self._kept.source, self._kept.target)
            else:
                self._table.save(before)
            raise
        with self.suspending(sink):
            self._checkpoint(sink)
        return sink

    def wrote(self, sink: Sink, done: Written, skipped: Skipped) -> None:
        self.written.join(done.ids)
        self.kept_anchors += done.kept_anchors
        self._cursor, self._skipped = done.cursor, skipped
        if time.monotonic() - self._last >= self._every:
            self._checkpoint(sink)

    def stopped(self, sink: Sink) -> TerminatedError:
        self._checkpoint(sink)
        if self._kept.token is None:
            return _stopped_for_good(self.written)
        return TerminatedError(
            f"stopped after {self.written.count:,} points, which are kept",
            remedy="Run the same command to continue.",
        )

    def _checkpoint(self, sink: Sink) -> None:
        # First the data, then the record of it: a kill between the two writes the data again.
        token = sink.checkpoint()
        self._last = time.monotonic()
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

    def publishing(self, sink: Sink) -> None:
        # Opened anew: an open source may go on to show what it was.
        with open_source(self._kept.source) as again:
            now = again.fingerprint()
        if not sink.in_place and now != self._kept.belongings.source_fingerprint:
            raise VerificationError(
                f"{self._kept.source} changed while it was read",
                remedy="Nothing was published. Keep it still and run again.",
            )
        self._checkpoint(sink)
        self._save(status=MigrationStatus.PUBLISHING)

    def done(self) -> None:
        self._save(status=MigrationStatus.DONE)

    def _save(self, **changes: object) -> None:
        now = {
            "cursor": self._cursor,
            "written": self.written.count,
            "id_total": self.written.total,
            "kept_anchors": self.kept_anchors,
            "skipped_ids": list(dict.fromkeys(self._skipped.ids)),
        }
        self._kept = self._kept.model_copy(update={**now, **changes})
        self._table.save(self._kept)


@contextmanager
def keep_progress(
    state: Path, job: MigrationRecord, *, restart: bool, every: float
) -> Iterator[SavedProgress]:
    """Keep ``job`` in the state file, or continue what is there of it, one run at a time.

    Parameters
    ----------
    every
        Seconds from one checkpoint to the next, at least.

    Raises
    ------
    LockedError
        If another run has it.
    MismatchError
        If the job was begun with other things, and ``restart`` is False.
    """
    with (
        job_lock(state.parent / "locks", job.key, f"{job.source} to {job.target}"),
        closing(open_state(state)) as connection,
    ):
        table = MigrationTable(connection)
        found = None if restart else table.find(job.source, job.target)
        yield SavedProgress(table, _continued(found, job) if found else job, every)


def _continued(found: MigrationRecord, job: MigrationRecord) -> MigrationRecord:
    """Return what to go on with: an earlier run's job, or a new one.

    Raises
    ------
    MismatchError
        If the earlier run is unfinished and was begun with other things.
    """
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
