"""Logs that ``--log-file`` wrote, without what they say of some points."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vecmigrate.errors import WriteError
from vecmigrate.forget.mentions import Mentions

_TEXT_LINE = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (?:DEBUG|INFO |WARN |ERROR|FATAL) "
)
_FILLER = b"-"
_STACK = "exception.stacktrace"


def is_log(first_line: bytes) -> bool:
    """Tell by its first line whether a file is a log of ours."""
    return _TEXT_LINE.match(first_line) is not None or (
        first_line.startswith(b'{"timestamp": ') and b'"service.name": "vecmigrate"' in first_line
    )


def blank_mentions(path: Path, mentions: Mentions, *, look: bool = False) -> int:
    """Blank what lines say that name a point, each byte in its place; return how many lines.

    Whoever is appending to the log goes on undisturbed.

    Parameters
    ----------
    look
        Count alone.

    Raises
    ------
    WriteError
    """
    found = 0
    try:
        with path.open("rb" if look else "r+b") as file:
            start = 0
            for line in file.read().splitlines(keepends=True):
                blanked = _blanked(line, mentions)
                if blanked is not None:
                    found += 1
                    if not look:
                        file.seek(start)
                        file.write(blanked)
                start += len(line)
    except OSError as error:
        raise WriteError(
            f"the log {path} cannot be changed: {error.strerror or error}",
            remedy="Make it writable, then run the same command.",
        ) from error
    return found


def _blanked(line: bytes, mentions: Mentions) -> bytes | None:
    """Return a line without what it says, as long as before; None if it names no point."""
    begin = _TEXT_LINE.match(line)
    if begin is not None:
        said = line[begin.end() :].rstrip(b"\r\n")
        if not mentions.within(said.decode(errors="replace")):
            return None
        rest = line[begin.end() + len(said) :]
        return line[: begin.end()] + _FILLER * len(said) + rest
    try:
        record = json.loads(line)
        texts = {"body": record["body"], _STACK: record["attributes"].get(_STACK)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    changed = line
    for name, text in texts.items():
        if isinstance(text, str) and mentions.within(text):
            spelled = json.dumps(text, ensure_ascii=False)[1:-1].encode()
            key = f'"{name}": "'.encode()
            changed = changed.replace(key + spelled, key + _FILLER * len(spelled), 1)
    return None if changed == line else changed
