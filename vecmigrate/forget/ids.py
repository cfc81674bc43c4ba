"""Ids as a person gives them: on the line, or in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import PointId


def parse_id(text: str) -> PointId:
    """Read an id: digits are a number, JSON's quoted text is that text, all else is as it is."""
    if text.isascii() and text.isdigit():
        return int(text)
    if text.startswith('"'):
        try:
            said = json.loads(text)
        except ValueError:
            return text
        if isinstance(said, str):
            return said
    return text


def read_ids(given: Iterable[str], path: Path | None) -> tuple[PointId, ...]:
    """Return the ids on the line and those of a file, one a line or one JSON array; none twice.

    Raises
    ------
    InputError
        If the file cannot be read.
    UsageError
        If there are none.
    """
    ids = [parse_id(text) for text in given]
    if path is not None:
        ids += _of_file(path)
    if not ids:
        raise UsageError("no id was given", remedy="Name ids, or a file of them with --ids-file.")
    return tuple(dict.fromkeys(ids))


def _of_file(path: Path) -> list[PointId]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a file of ids ({getattr(error, 'strerror', None) or error})",
            remedy="Give ids one a line, or as one JSON array.",
        ) from error
    if not content.lstrip().startswith("["):
        return [parse_id(line.strip()) for line in content.splitlines() if line.strip()]
    try:
        listed = json.loads(content)
    except ValueError as error:
        raise InputError(
            f"{path} begins as a JSON array and is none ({error})", remedy="Mend it."
        ) from error
    wrong = next((i for i in listed if type(i) not in (int, str)), None)
    if wrong is not None:
        raise InputError(
            f"{path} has {json.dumps(wrong)}, which is no id", remedy="Ids are numbers or text."
        )
    return list(listed)
