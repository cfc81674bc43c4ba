"""What every engine is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vecmigrate.connector.source import Source
from vecmigrate.migration.translate import Converter, Spent, StageSeconds
from vecmigrate.migration.write import Writing, Written
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.screening import Absent, OnBadVector, Skipped


@dataclass(frozen=True)
class Conversion:
    """What is to be read and converted.

    Attributes
    ----------
    absent
        What a point without a vector is to the target.
    cursor
        Where to start, see :meth:`Source.batches`.
    skipped
        Gathers the bad vectors left out.
    folder
        The job's own, for what a later run of it may use; None if nothing is kept.
    identity
        Tells what is converted, and by what: what was kept is of use to the same alone.
    restart
        Leave unused what an earlier run kept.
    announce
        Called with a line for a person.
    stages
        Gathers the time that reading and translating take in this process.
    spent
        Called with what workers of other processes have bought.
    """

    source: Source
    converter: Converter
    on_bad_vector: OnBadVector
    batch_size: int
    cursor: str | None
    skipped: Skipped
    absent: Absent = Absent.BAD
    folder: Path | None = None
    identity: str = ""
    restart: bool = False
    announce: Callable[[str], None] = lambda line: None
    stages: StageSeconds = field(default_factory=StageSeconds)
    spent: Callable[[Spent], None] = lambda spent: None


class Engine(ABC):
    """Reads a source and translates it, in the source's order and by its batches.

    Whichever engine it is, the same batches with the same cursors come, so that a run begun with
    one is continued with another.

    Attributes
    ----------
    converts_here
        True if batches are converted in this process.
    """

    converts_here: ClassVar[bool] = True

    @abstractmethod
    def check(self, source: Source) -> None:
        """Raise unless the engine can read the source; asked before a target is made.

        Raises
        ------
        MissingDependencyError
            If the engine's package is not installed.
        UsageError
            If the source is not one that it can read.
        UnreachableError
            If its cluster does not answer.
        """

    @abstractmethod
    def translated(self, work: Conversion) -> AbstractContextManager[Iterator[VectorBatch]]:
        """A context with the translated batches, usable vectors alone, read in one thread.

        Raises
        ------
        BadVectorError
            If a vector is not usable and ``work.on_bad_vector`` is ``fail``.
        InputError, UnreachableError, WriteError
        """

    @contextmanager
    def written(self, work: Conversion, writing: Writing) -> Iterator[Iterator[Written]]:
        """A context in which the points are written, told of in the source's order.

        Raises
        ------
        RefusedError, MismatchError
            From the target, beside what :meth:`translated` raises.
        """
        with self.translated(work) as batches:
            yield writing.write(batches)
