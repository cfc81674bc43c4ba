"""Relevance labels in a file of their own: JSON lines, or TREC's qrels."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from vecmigrate.errors import InputError
from vecmigrate.evaluation.queries import Query
from vecmigrate.points.batch import PointId


def read_labels(path: str | Path) -> dict[PointId, dict[PointId, float]]:
    """Read the gain of each relevant document, by query id.

    A line is ``{"id": QUERY, "relevant": [ids] or {id: gain}}``, or four fields as TREC has them:
    query, a number that is not used, document, gain. Ids of digits are integers. Gains of 0 or
    less are left out; clicks may serve as gains.

    Raises
    ------
    InputError
        Where the file is missing, malformed (the line is named) or holds no labels.
    """
    path = Path(path)
    labels: dict[PointId, dict[PointId, float]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy="Give a file of labels.",
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            query, gains = _parse(line)
        except (ValueError, ValidationError) as error:
            raise InputError(
                f"{path}, line {number} is not a label",
                remedy='Write {"id": QUERY, "relevant": [ids]}, or "QUERY 0 DOCUMENT GAIN".',
            ) from error
        labels.setdefault(query, {}).update({i: g for i, g in gains.items() if g > 0})
    if not any(labels.values()):
        raise InputError(f"{path} holds no labels", remedy="Give at least one relevant document.")
    return labels


def _parse(line: str) -> tuple[PointId, dict[PointId, float]]:
    if line.lstrip().startswith("{"):
        query = Query.model_validate(json.loads(line))
        return query.id, query.relevant
    name, _, document, gain = line.split()
    return _id(name), {_id(document): float(gain)}


def _id(text: str) -> PointId:
    return int(text) if text.isdecimal() else text
