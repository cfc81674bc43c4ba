"""Where logs go, and what they tell of the run at work."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

import typer

from vecmigrate.errors import ExitCode, WriteError
from vecmigrate.telemetry.events import log_event
from vecmigrate.telemetry.redaction import redacted

LIBRARY = logging.getLogger("vecmigrate")
RUNS = logging.getLogger("vecmigrate.run")
"""For what a person is told anyway, in other words: begin, warnings, error and end of a run."""


LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_of_run: dict[str, object] = {}
"""Attributes of the run at work, for all threads, which a context variable would not reach."""


@contextmanager
def logging_to(
    format_: LogFormat | None, path: Path | None, level: LogLevel | None
) -> Iterator[None]:
    """Log as asked, to standard error if no file is named; nothing if all are None.

    What the library warns of is shown to a person all the same.

    Raises
    ------
    WriteError
        If the file cannot be opened.
    """
    asked = any(said is not None for said in (format_, path, level))
    least = logging.getLevelNamesMapping()[(level or "info").upper()]
    with ExitStack() as stack:
        stack.callback(LIBRARY.setLevel, LIBRARY.level)
        LIBRARY.setLevel(min(least, logging.INFO))
        if asked:
            handler = _open(path)
            stack.callback(handler.close)
            handler.setFormatter(JsonLines() if format_ == "json" else TextLines())
            handler.setLevel(least)
            stack.enter_context(handling(LIBRARY, handler))
        if path is not None or not asked:
            warnings = logging.StreamHandler()
            warnings.setLevel(logging.WARNING)
            warnings.addFilter(lambda record: record.name != RUNS.name)
            stack.enter_context(handling(LIBRARY, warnings))
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
    before = dict(_of_run)
    _of_run.update(attributes)
    try:
        yield
    finally:
        _of_run.clear()
        _of_run.update(before)


def report_error(error: BaseException, message: str, exit_code: int) -> None:
    """Log an error, once however often it is reported on its way up."""
    if vars(error).get("is_logged"):
        return
    vars(error)["is_logged"] = True
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


TRACE_VARIABLE = "TRACEPARENT"

_SEVERITIES = (
    (logging.CRITICAL, "FATAL", 21),
    (logging.ERROR, "ERROR", 17),
    (logging.WARNING, "WARN", 13),
    (logging.INFO, "INFO", 9),
    (logging.NOTSET, "DEBUG", 5),
)
_TRACE_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_PLAIN = re.compile(r"[^\s\"=]+")


class LineFormatter(logging.Formatter):
    """What both formats tell, without secrets."""

    def told(self, record: logging.LogRecord) -> tuple[str, dict[str, object]]:
        """Return the body and the attributes of a record."""
        attributes = {**_of_run, **getattr(record, "attributes", {})}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            attributes["exception.stacktrace"] = "".join(traceback.format_exception(error))
        clean = {
            name: redacted(value) if isinstance(value, str) else value
            for name, value in attributes.items()
        }
        return redacted(record.getMessage()), clean


class JsonLines(LineFormatter):
    """One JSON object a line, in the fields of OpenTelemetry's log data model."""

    def __init__(self) -> None:
        super().__init__()
        self._constant = {
            **_trace(os.environ.get(TRACE_VARIABLE, "")),
            "resource": {
                "service.name": "vecmigrate",
                "service.version": version("vecmigrate"),
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            },
        }

    def format(self, record: logging.LogRecord) -> str:
        body, attributes = self.told(record)
        severity, number = _severity(record.levelno)
        event = getattr(record, "event", None)
        line = {
            "timestamp": _timestamp(record),
            "severity_text": severity,
            "severity_number": number,
            **({"event_name": event} if event else {}),
            "body": body,
            "attributes": attributes,
            "scope": {"name": record.name},
            **self._constant,
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(LineFormatter):
    """Time, severity, body and ``name=value`` pairs; quoted if there are spaces."""

    def format(self, record: logging.LogRecord) -> str:
        body, attributes = self.told(record)
        severity, _ = _severity(record.levelno)
        pairs = (f" {name}={_spelled(value)}" for name, value in attributes.items())
        one_line = " ".join(body.split())
        return f"{_timestamp(record)} {severity:<5} {one_line}{''.join(pairs)}"


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _severity(level: int) -> tuple[str, int]:
    return next((text, number) for least, text, number in _SEVERITIES if level >= least)


def _spelled(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _trace(parent: str) -> dict[str, object]:
    """Read a W3C ``traceparent``; nothing if it is not one."""
    match = _TRACE_PARENT.fullmatch(parent.strip())
    if match is None:
        return {}
    known, trace, span, flags, more = match.groups()
    if known == "ff" or (known == "00" and more) or not (int(trace, 16) and int(span, 16)):
        return {}
    return {"trace_id": trace, "span_id": span, "trace_flags": int(flags, 16)}
