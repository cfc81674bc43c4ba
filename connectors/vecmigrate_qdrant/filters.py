"""Filters of searches: read from JSON, as a server takes them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from qdrant_client import models

from vecmigrate.connector import UsageError


def read_filter(where: str, collection: str) -> models.Filter:
    """Return the filter that a JSON object is.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        return models.Filter.model_validate_json(where)
    except ValidationError as error:
        raise UsageError(
            f"{where!r} is no filter of {collection} ({error.errors()[0]['msg']})",
            remedy='Give a Qdrant filter as JSON, as {"must": [{"key": "lang", "match": '
            '{"value": "en"}}]}.',
        ) from error


def count_conditions(wanted: models.Filter | None) -> int:
    """Return how many conditions a filter has, as a server's limits count them."""
    if wanted is None:
        return 0
    counted = 0
    for part in conditions_of(wanted):
        inner = part.nested.filter if isinstance(part, models.NestedCondition) else part
        counted += count_conditions(inner) if isinstance(inner, models.Filter) else 1
    return counted


def conditions_of(wanted: models.Filter) -> Iterator[models.Condition]:
    """Yield the conditions of a filter itself."""
    least = wanted.min_should.conditions if wanted.min_should else None
    for part in (wanted.must, wanted.must_not, wanted.should, least):
        if part is not None:
            yield from part if isinstance(part, list) else [part]
