"""Queries and relevance labels, from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, field_validator

from vecmigrate.errors import InputError, UsageError, reason_of
from vecmigrate.points.batch import PointId
from vecmigrate.points.ids import name_some


class Query(BaseModel, frozen=True, extra="ignore"):
    """One line of a query file.

    Attributes
    ----------
    id
        Names the query, also in a file of ready-made query vectors.
    text
        None if vectors are ready-made.
    relevant
        Gain by document id: a list of ids in the file means a gain of 1 each. Empty if the
        query has no labels.
    """

    id: PointId
    text: str | None = None
    relevant: dict[PointId, float] = {}

    @field_validator("relevant", mode="before")
    @classmethod
    def _list_means_one_each(cls, value: object) -> object:
        if isinstance(value, list):
            return dict.fromkeys(value, 1.0)
        if isinstance(value, dict):
            # JSON has only string keys; an integer id is written as digits.
            return {int(k) if k.isdecimal() else k: gain for k, gain in value.items()}
        return value


def read_queries(path: str | Path) -> list[Query]:
    """Read ``{"id": …, "text": …, "relevant": [ids] or {id: gain}}``, one object a line.

    Raises
    ------
    InputError
        If the file is missing, empty, malformed (the line is named) or repeats an id.
    """
    queries: list[Query] = []
    seen: set[PointId] = set()
    for number, line in _lines(path, "a JSONL file of queries"):
        query = _parse(line, f"{path}, line {number}")
        if query.id in seen:
            raise InputError(f"{path} has query id {query.id!r} twice", remedy="Make ids unique.")
        seen.add(query.id)
        queries.append(query)
    if not queries:
        raise InputError(f"{path} holds no queries", remedy="Give one JSON object a line.")
    return queries


def _lines(path: str | Path, what: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy=f"Give {what}.",
        ) from error


def _parse(line: str, where: str) -> Query:
    try:
        return Query.model_validate(json.loads(line))
    except ValueError as error:
        raise InputError(
            f"{where} is not a query ({reason_of(error)})",
            remedy='Write {"id": 1, "text": "…", "relevant": [ids]}.',
        ) from error


def read_labels(path: str | Path) -> dict[PointId, dict[PointId, float]]:
    """Read the gain of each relevant document, by query id.

    A line is ``{"id": QUERY, "relevant": [ids] or {id: gain}}``, or four fields as TREC has them:
    query, a number that is not used, document, gain. Ids of digits are integers. Gains of 0 or
    less are left out; clicks may serve as gains.

    Raises
    ------
    InputError
        If the file is missing, malformed (the line is named) or holds no labels.
    """
    labels: dict[PointId, dict[PointId, float]] = {}
    for number, line in _lines(path, "a file of labels"):
        try:
            query, gains = _parse_label(line)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number} is not a label",
                remedy='Write {"id": QUERY, "relevant": [ids]}, or "QUERY 0 DOCUMENT GAIN".',
            ) from error
        labels.setdefault(query, {}).update({i: g for i, g in gains.items() if g > 0})
    if not any(labels.values()):
        raise InputError(f"{path} holds no labels", remedy="Give at least one relevant document.")
    return labels


def read_log(
    queries: str | Path | None,
    labels: str | Path | None,
    announce: Callable[[str], None] = lambda line: None,
) -> list[Query] | None:
    """Read a query log, with the labels of a file of their own instead of those it carries.

    Parameters
    ----------
    announce
        Called with a line for a person if some labels are of no query.

    Raises
    ------
    UsageError
        If there are labels and no log.
    InputError
        If a file is not usable, or no labelled query is in the log.
    """
    if queries is None:
        if labels is not None:
            raise UsageError("--labels needs --queries", remedy="Give the queries they label.")
        return None
    log = read_queries(queries)
    if labels is None:
        return log
    of_query = read_labels(labels)
    strangers = of_query.keys() - {query.id for query in log}
    if len(strangers) == len(of_query):
        raise InputError(
            "no query that --labels names is in --queries",
            remedy="Label queries by the ids they have in the log.",
        )
    if strangers:
        named = name_some(sorted(strangers, key=str))
        announce(f"{len(strangers):,} labelled queries are not in the log: {named}")
    return [query.model_copy(update={"relevant": of_query.get(query.id, {})}) for query in log]


def _parse_label(line: str) -> tuple[PointId, dict[PointId, float]]:
    if line.lstrip().startswith("{"):
        query = Query.model_validate(json.loads(line))
        return query.id, query.relevant
    name, _, document, gain = line.split()
    return _id(name), {_id(document): float(gain)}


def _id(text: str) -> PointId:
    return int(text) if text.isdecimal() else text
