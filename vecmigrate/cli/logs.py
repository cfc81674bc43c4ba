"""Where logs go, and what they tell of the run at work."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import typer

from vecmigrate.cli.log_lines import JsonLines, TextLines
from vecmigrate.errors import ExitCode, WriteError
from vecmigrate.telemetry.events import log_event

LIBRARY = logging.getLogger("vecmigrate")
RUNS = logging.getLogger("vecmigrate.run")
"""For what a person is told anyway, in other words: begin, warnings, error and end of a run."""


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged, at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """As :mod:`logging` counts."""
        return logging.getLevelNamesMapping()[self.name]


@dataclass
class _Current:
    """The run at work, for all threads of the process, which a context variable would not reach."""

    attributes: dict[str, object] = field(default_factory=dict)
    reported: BaseException | None = None


_current = _Current()


@contextmanager
def logging_to(
    format_: LogFormat | None, path: Path | None, level: LogLevel | None
) -> Iterator[None]:
    """Log as asked, to standard error where no file is named; nothing where all are None.

    What the library warns of is shown to a person all the same.

    Raises
    ------
    WriteError
        Where the file cannot be opened.
    """
    asked = any(said is not None for said in (format_, path, level))
    least = (level or LogLevel.INFO).number
    with ExitStack() as stack:
        stack.enter_context(_set_up(min(least, logging.INFO)))
        if asked:
            handler = _open(path)
            stack.callback(handler.close)
            lines = JsonLines if format_ is LogFormat.JSON else TextLines
            handler.setFormatter(lines(_current.attributes))
            handler.setLevel(least)
            stack.enter_context(handling(LIBRARY, handler))
            stack.enter_context(handling(RUNS, handler))
        else:
            stack.enter_context(handling(RUNS, logging.NullHandler()))
        if (path is not None or not asked) and logging.lastResort is not None:
            stack.enter_context(handling(LIBRARY, logging.lastResort))
        yield


@contextmanager
def handling(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Let ``handler`` have a logger's records meanwhile."""
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def run_attributes(attributes: Mapping[str, object]) -> Iterator[None]:
    """Have every record tell these of its run meanwhile."""
    before = dict(_current.attributes)
    _current.attributes.update(attributes)
    try:
        yield
    finally:
        _current.attributes.clear()
        _current.attributes.update(before)


def report_error(error: BaseException, message: str, exit_code: int) -> None:
    """Log an error, once however often it is reported on its way up."""
    if error is _current.reported:
        return
    _current.reported = error
    log_event(
        RUNS,
        logging.ERROR,
        "vecmigrate.error",
        message,
        {"error.type": type(error).__name__, "exit.code": int(exit_code)},
        # A fault of ours; all others are told by their message.
        error=error if exit_code == ExitCode.INTERNAL else None,
    )


class _File(logging.FileHandler):
    """Says once, in a line, that it cannot be written; the run goes on."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not self._told:
            self._told = True
            said = f"warning: the log {self.baseFilename} cannot be written: {sys.exception()}"
            typer.echo(said, err=True)

    def close(self) -> None:
        # What a full disk did not take is told already.
        with suppress(OSError):
            super().close()


def _open(path: Path | None) -> logging.Handler:
    try:
        return _File(path, encoding="utf-8") if path else logging.StreamHandler()
    except OSError as error:
        raise WriteError(
            f"the log {path} cannot be written: {error.strerror or error}",
            remedy="Name a file in a folder that is there and writable, with --log-file.",
        ) from error


@contextmanager
def _set_up(level: int) -> Iterator[None]:
    level_before, propagate_before = LIBRARY.level, RUNS.propagate
    LIBRARY.setLevel(level)
    RUNS.propagate = False
    try:
        yield
    finally:
        LIBRARY.setLevel(level_before)
        RUNS.propagate = propagate_before
        _current.reported = None
