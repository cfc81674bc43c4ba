"""Keeps a target in step: one sync after another, until it is asked to end."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import BaseModel, Field, model_validator

from vecmigrate.errors import (
    BadVectorError,
    InputError,
    LockedError,
    RefusedError,
    TerminatedError,
    UnreachableError,
    UsageError,
    VecmigrateError,
    WriteError,
)
from vecmigrate.io.atomic import replace_text
from vecmigrate.runtime.durations import Duration, duration_text, parse_duration
from vecmigrate.runtime.options import OnLine, Options
from vecmigrate.state.scan import FoundBy
from vecmigrate.sync.options import SyncOptions, SyncResult

LONGEST_PAUSE = 300.0
"""Seconds from a pass that failed to the next one at most, unless passes are rarer anyway."""


class WatchOptions(Options):
    """Whether and how a sync is done again and again."""

    watch: Annotated[Duration | None, OnLine(metavar="DURATION")] = Field(
        default=None,
        description="Keep the target in step: sync again this long after each pass, as 30s, until "
        "SIGTERM or Ctrl-C.",
    )
    health: Path | None = Field(
        default=None,
        description="With --watch: JSON file that tells when a pass last succeeded and what has "
        "failed since, for probes.",
    )

    @model_validator(mode="after")
    def _health_is_of_a_watch(self) -> Self:
        if self.health is not None and self.watch is None:
            raise ValueError("--health belongs to --watch")
        if self.every == 0:
            raise ValueError("--watch 0 leaves no pause between passes; write it as 30s")
        return self

    @property
    def every(self) -> float | None:
        """Seconds from a pass to the next one; None for one pass alone."""
        return None if self.watch is None else parse_duration(self.watch)

    def check(self, options: SyncOptions) -> None:
        """Raise :class:`UsageError` if a sync is not one to be done again and again."""
        if self.watch is None:
            return
        if options.dry_run or options.budget is not None:
            name = "--dry-run" if options.dry_run else "--reembed-budget"
            raise UsageError(
                f"--watch and {name} exclude each other",
                remedy=f"{name} is for one run: leave --watch out, or give {name} to a run of its "
                "own.",
            )


class WatchWarning(UserWarning):
    """A pass failed, and another one is to follow."""


class Failure(BaseModel):
    """Why the last pass failed."""

    at: str
    message: str
    remedy: str
    exit_code: int


class Health(BaseModel):
    """What the health file tells.

    Attributes
    ----------
    state
        ``working`` during a pass, ``waiting`` between two, ``ended`` after the last one.
    last_success, last_success_timestamp
        When the last pass that succeeded began, ISO 8601 and in seconds since 1970: the target is
        as the source was then, or later. None if there was none.
    points_behind
        Points that this pass found to bring or to delete, and did.
    seconds
        That it took.
    failures
        Passes that have failed since.
    last_error
        Of the last of these; None if the last pass succeeded.
    next_pass
        When the next one begins, ISO 8601.
    """

    pid: int = Field(default_factory=os.getpid)
    started: str = Field(default_factory=lambda: _at(time.time()))
    state: Literal["working", "waiting", "ended"] = "working"
    passes: int = 0
    last_success: str | None = None
    last_success_timestamp: float | None = None
    points_behind: int | None = None
    seconds: float | None = None
    found_by: FoundBy | None = None
    failures: int = 0
    last_error: Failure | None = None
    next_pass: str | None = None


def watch(
    run: Callable[[], SyncResult],
    every: float,
    wait: Callable[[float], bool],
    *,
    health: Path | None = None,
    told: Callable[[SyncResult], None] = lambda result: None,
) -> NoReturn:
    """Make passes until one is asked to end, or fails in a way that does not pass by itself.

    Servers that do not answer and other runs at work are waited for, longer each time. So is,
    once a pass has succeeded, a source or a disk that fails.

    Parameters
    ----------
    run
        Makes a pass.
    every
        Seconds from a pass to the next one.
    wait
        Waits for so many seconds; returns True, at once, if the end is asked for.
    health
        The file that tells of it.
    told
        Called after each pass that succeeded.

    Raises
    ------
    TerminatedError
        If the end was asked for.
    VecmigrateError
        What a pass raised that a person has to see to.
    WriteError
        If the health file cannot be made.
    """
    keeper = _Keeper(health)
    keeper.write()
    try:
        while True:
            begun = time.time()
            try:
                result = run()
            except VecmigrateError as error:
                pause = keeper.failed(error, every)
                if not _may_pass(error, keeper.health.last_success is not None):
                    raise
                warnings.warn(
                    f"{error} The next pass is in {duration_text(pause)}", WatchWarning,
                    stacklevel=2,
                )  # fmt: skip
            else:
                pause = every
                keeper.succeeded(result, begun)
                told(result)
            keeper.note(state="waiting", next_pass=_at(time.time() + pause))
            if wait(pause):
                raise TerminatedError(
                    "stopped between two passes", remedy="Run the same command to continue."
                )
            keeper.note(state="working", next_pass=None)
    finally:
        keeper.note(state="ended", next_pass=None)


def _may_pass(error: VecmigrateError, has_succeeded: bool) -> bool:
    """Tell whether the same pass may succeed later without anybody's doing."""
    if isinstance(error, BadVectorError | RefusedError):
        return False
    if isinstance(error, UnreachableError | LockedError):
        return True
    # What cannot be read or written from the first pass on was named wrong.
    return has_succeeded and isinstance(error, InputError | WriteError)


class _Keeper:
    """Keeps the health file, if there is to be one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.health = Health()

    def succeeded(self, result: SyncResult, begun: float) -> None:
        self.health = self.health.model_copy(
            update={
                "passes": self.health.passes + 1,
                "last_success": _at(begun),
                "last_success_timestamp": begun,
                "points_behind": result.wrote,
                "seconds": result.seconds,
                "found_by": result.found_by,
                "failures": 0,
                "last_error": None,
            }
        )

    def failed(self, error: VecmigrateError, every: float) -> float:
        """Note that a pass failed; return the seconds until the next one."""
        failure = Failure(
            at=_at(time.time()), message=error.message, remedy=error.remedy,
            exit_code=error.exit_code,
        )  # fmt: skip
        failures = self.health.failures + 1
        update = {
            "passes": self.health.passes + 1,
            "failures": failures,
            "last_error": failure,
        }
        self.health = self.health.model_copy(update=update)
        return min(max(every, 1.0) * 2.0 ** min(failures - 1, 20), max(LONGEST_PAUSE, every))

    def note(self, **changes: object) -> None:
        """Change what the file tells; a file that cannot be written any more ends nothing."""
        self.health = self.health.model_copy(update=changes)
        try:
            self.write()
        except WriteError as error:
            warnings.warn(str(error), WatchWarning, stacklevel=2)

    def write(self) -> None:
        """Write the file.

        Raises
        ------
        WriteError
        """
        if self._path is None:
            return
        try:
            replace_text(self._path, self.health.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise WriteError(
                f"the health file {self._path} cannot be written: {error.strerror or error}",
                remedy="Name a file in a folder that is there and writable, with --health.",
            ) from error


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
