"""Log records as lines: text for a person, JSON in the terms of OpenTelemetry's log data model."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from vecmigrate.telemetry.redaction import redacted

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
    """What both formats tell, without secrets.

    Parameters
    ----------
    run
        Attributes of the run at work, looked up anew for each record.
    """

    def __init__(self, run: Mapping[str, object]) -> None:
        super().__init__()
        self._run = run

    def told(self, record: logging.LogRecord) -> tuple[str, dict[str, object]]:
        """Return the body and the attributes of a record."""
        attributes = {**self._run, **getattr(record, "attributes", {})}
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

    def __init__(self, run: Mapping[str, object]) -> None:
        super().__init__(run)
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
    """Time, severity, body and ``name=value`` pairs; quoted where there are spaces."""

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
    """Read a W3C ``traceparent``; nothing where it is not one."""
    match = _TRACE_PARENT.fullmatch(parent.strip())
    if match is None:
        return {}
    known, trace, span, flags, more = match.groups()
    if known == "ff" or (known == "00" and more) or not (int(trace, 16) and int(span, 16)):
        return {}
    return {"trace_id": trace, "span_id": span, "trace_flags": int(flags, 16)}
