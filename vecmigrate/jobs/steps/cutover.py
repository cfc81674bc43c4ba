"""Leads readers to the target, if the user says so."""

from __future__ import annotations

from vecmigrate.connector.addresses import canonical_place, followed_place
from vecmigrate.cutover import cut_over
from vecmigrate.cutover.readers import name_uri, readers_have
from vecmigrate.cutover.records import CutoverLog
from vecmigrate.jobs.steps.base import JobContext, RunHooks, StepState, StepStatus


class CutoverStep:
    """The cutover; it rests on the verification, and is done only when asked for.

    Parameters
    ----------
    name
        What readers open.
    asked
        True if this run is to do it.
    """

    name = "cutover"

    def __init__(self, moving: JobContext, name: str, *, asked: bool) -> None:
        self._moving = moving
        self._readers = name_uri(name, moving.target)
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
        target = self._moving.target
        with around.recorded(self.name, self._readers, target):
            move = cut_over(self._readers, target, self._moving.records)
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
