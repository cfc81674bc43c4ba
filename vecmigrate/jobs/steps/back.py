"""Keeps the way back open for a while after the cutover."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vecmigrate.connector.addresses import followed_place
from vecmigrate.cutover.records import CutoverLog, CutoverRecord
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus
from vecmigrate.jobs.steps.sync import run_sync_back
from vecmigrate.runtime.durations import parse_duration
from vecmigrate.sync.options import SyncOptions


class BackStep:
    """The sync the other way; due on each run until the time for which the way is kept is over.

    Parameters
    ----------
    keep
        How long after the cutover, as :func:`parse_duration` reads it.
    """

    name = "sync-back"

    def __init__(self, moving: JobContext, keep: str) -> None:
        self._moving = moving
        self._keep = timedelta(seconds=parse_duration(keep))

    def look(self) -> StepState:
        entry = self._cutover()
        if entry is None:
            return StepStatus.NOTHING.because("the cutover comes first")
        if entry.previous is None or entry.dropped_at is not None:
            gone = "had nothing before" if entry.previous is None else "cannot go back any more"
            return StepStatus.NOTHING.because(f"readers {gone}")
        until = datetime.fromisoformat(entry.done_at or entry.begun_at) + self._keep
        if datetime.now(UTC) > until:
            return StepStatus.DONE.because(f"the way back was kept until {until:%Y-%m-%d %H:%M}")
        return StepStatus.DUE.because(
            f"brings what changes at {self._moving.target} to {entry.previous} until "
            f"{until:%Y-%m-%d %H:%M}"
        )

    def do(self, around: RunHooks) -> StepState:
        moving, entry = self._moving, self._cutover()
        assert entry is not None
        assert entry.previous is not None
        options = SyncOptions(
            back=True,
            encoder=moving.spec.source.encoder,
            keep_anchors=moving.anchors,
            max_vanished=moving.spec.sync.max_vanished,
            on_bad_vector=moving.spec.on_bad_vector,
        )
        done = run_sync_back(moving.target, entry.previous, options, moving.state, around)
        return StepStatus.DONE.because(
            f"{done.arrived:,} arrived, {done.changed:,} changed, {done.vanished:,} vanished at "
            f"{moving.target} and are at {entry.previous}"
        )

    def _cutover(self) -> CutoverRecord | None:
        """Return the cutover that led readers to the target."""
        log = CutoverLog(self._moving.records)
        return next(iter(log.leading_to(followed_place(self._moving.target))), None)
