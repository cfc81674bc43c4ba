"""Leads readers to the target, if the user says so."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Connection

from vecmigrate.connector.addresses import canonical_place, followed_place
from vecmigrate.cutover import CaughtUp, Move, cut_over
from vecmigrate.cutover.options import CutoverOptions
from vecmigrate.cutover.readers import name_uri, readers_have
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.jobs.spec import CutoverSection
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus
from vecmigrate.jobs.steps.sync import job_options, run_sync
from vecmigrate.sync.cutover import cut_over_in_step
from vecmigrate.sync.options import InStepOptions, SyncOptions, SyncResult


def run_cutover(
    name: str,
    target: str,
    state: Path,
    records: Connection,
    options: InStepOptions,
    around: RunHooks,
    sync_options: SyncOptions | None = None,
) -> Move:
    """Lead readers over; raises as :func:`cut_over` and :func:`cut_over_in_step`.

    Parameters
    ----------
    sync_options
        Of the syncs that catch up; default: those that ``options`` tell.
    """
    simple = CutoverOptions(dry_run=options.dry_run, unverified=options.unverified)
    translator = options.translator
    if not options.catch_up:
        return cut_over(name, target, records, simple)
    asked = sync_options or SyncOptions(
        changed_by=options.changed_by,
        keep_anchors=options.keep_anchors,
        encoder=options.encoder,
    )

    def bring(source: str, readers_led: bool) -> SyncResult:
        each = asked.model_copy(update={"overwrite": asked.overwrite and not readers_led})
        return run_sync(source, target, translator, each, state, around)

    return cut_over_in_step(
        name, target, records, bring, simple, settle=options.settle, announce=around.announce
    )


class CutoverStep:
    """The cutover; it rests on the verification, and is done only when asked for.

    Parameters
    ----------
    asked
        True if this run is to do it.
    """

    name = "cutover"

    def __init__(self, moving: JobContext, section: CutoverSection, *, asked: bool) -> None:
        self._moving = moving
        self._section = section
        self._readers = name_uri(section.name, moving.target)
        self._asked = asked

    def look(self) -> StepState:
        target = self._moving.target
        have = readers_have(CutoverLog(self._moving.records), self._readers)
        there = have is not None and canonical_place(have) == followed_place(target)
        if self._moving.published() and there:
            return StepStatus.DONE.because(f"readers of {self._readers} have {target}")
        if not self._asked:
            return StepStatus.LEFT.because(
                f"leads readers of {self._readers} to {target}; done with --cutover alone"
            )
        return StepStatus.DUE.because(f"leads readers of {self._readers} to {target}")

    def do(self, around: RunHooks) -> StepState:
        moving, target = self._moving, self._moving.target
        options = InStepOptions(catch_up=False)
        if self._section.catch_up:
            options = InStepOptions(
                catch_up=True,
                translator=moving.route_translator,
                encoder=moving.route_encoder,
                settle=self._section.settle,
            )
        with around.recorded(self.name, self._readers, target):
            move = run_cutover(
                self._readers, target, moving.state, moving.records, options, around,
                job_options(moving).model_copy(
                    update={"reembed_budget": None, "encoder": moving.route_encoder}
                ),
            )  # fmt: skip
        if move.caught_up is not None:
            around.announce(told_behind(move.caught_up))
        for note in move.notes:
            around.announce(f"note: {note}")
        for line in move.writers:
            around.announce(f"writers: {line}")
        if move.kept is not None:
            around.announce(f"{move.kept} is kept; back with: vecmigrate rollback '{move.name}'")
        encoder = move.after.encoder or "the encoder of that collection"
        return StepStatus.DONE.because(
            f"readers of {move.name} have {target}, and must ask it with {encoder}"
            + (f", using={move.after.vector!r}" if move.after.vector else "")
        )


def told_behind(caught_up: CaughtUp) -> str:
    """Say how many points were behind at the switch, and for how long."""
    return (
        f"{caught_up.brought:,} changes of the source were brought before the switch; "
        f"{caught_up.behind:,} points were behind for {caught_up.seconds:,.1f} s after it"
    )
