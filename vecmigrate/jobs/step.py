"""What every step of a job is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from vecmigrate.dry_run.settings import Stage, silent


class Standing(StrEnum):
    """Whether a step is to be done."""

    DONE = "done"
    DUE = "to do"
    CONTINUES = "to continue"
    FAILED = "failed"
    """Ended with an exit code that stops the job, and would again."""
    LEFT = "left to you"
    NOTHING = "nothing to do"


class Look(BaseModel):
    """How a step stands, and why.

    Attributes
    ----------
    reason
        One line without a full stop, for a person.
    exit_code
        What a step that failed ended with.
    """

    model_config = ConfigDict(frozen=True)

    standing: Standing
    reason: str
    exit_code: int = 0

    @property
    def is_due(self) -> bool:
        """True where the step is to be done by a run."""
        return self.standing in (Standing.DUE, Standing.CONTINUES)

    @property
    def is_left(self) -> bool:
        """True where the step waits for a person to ask for it."""
        return self.standing is Standing.LEFT


@contextmanager
def _unrecorded(command: str, source: str, target: str) -> Iterator[dict[str, int]]:
    yield {}


@contextmanager
def _unstoppable() -> Iterator[Callable[[], bool]]:
    yield lambda: False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run tells, and whom it asks.

    Parameters
    ----------
    announce
        Called with lines for a person.
    stage
        Shows progress.
    recorded
        Notes that a command begins and how it ends, given command, source and target; yields the
        counts to note.
    stoppable
        Yields a function that tells whether the run is asked to end.
    """

    announce: Callable[[str], None] = lambda line: None
    stage: Stage = silent
    recorded: Callable[[str, str, str], AbstractContextManager[dict[str, int]]] = _unrecorded
    stoppable: Callable[[], AbstractContextManager[Callable[[], bool]]] = _unstoppable


class Step(Protocol):
    """A step of a job: it is looked at, by `plan` and `run`, and done, by `run`."""

    name: str

    def look(self) -> Look:
        """Tell how the step stands, changing nothing.

        Raises
        ------
        VecmigrateError
            Where doing it could not end well.
        """
        ...

    def do(self, around: Surroundings) -> Look:
        """Do it, keep its record, and tell what it came to."""
        ...
