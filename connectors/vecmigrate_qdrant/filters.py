"""Filters of searches: read from JSON, as a server takes them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from qdrant_client import models

from vecmigrate.connector import UsageError

_KNOWN = (
    models.FieldCondition,
    models.IsEmptyCondition,
    models.IsNullCondition,
    models.HasIdCondition,
    models.HasVectorCondition,
)


def read_filter(where: str, collection: str) -> models.Filter:
    """Return the filter that a JSON object is.

    Raises
    ------
    UsageError
        If it is none, or has a condition that a server may not know.
    """
    try:
        found = models.Filter.model_validate_json(where)
    except ValidationError as error:
        raise UsageError(
            f"{where!r} is no filter of {collection} ({error.errors()[0]['msg']})",
            remedy='Give a Qdrant filter as JSON, as {"must": [{"key": "lang", "match": '
            '{"value": "en"}}]}.',
        ) from error
    for condition in _each_condition(found):
        if not isinstance(condition, _KNOWN):
            # Over gRPC a server that does not know a condition lets all points through.
            raise UsageError(
                f"{where!r} has a condition that searches of {collection} do not take "
                f"({type(condition).__name__})",
                remedy="Leave the condition out.",
            )
    return found


def count_conditions(wanted: models.Filter | None) -> int:
    """Return how many conditions a filter has, as a server's limits count them."""
    return 0 if wanted is None else sum(1 for _ in _each_condition(wanted))


def _each_condition(wanted: models.Filter) -> Iterator[models.Condition]:
    """Yield the conditions of a filter, and of those within it in their place."""
    least = wanted.min_should.conditions if wanted.min_should else None
    for part in (wanted.must, wanted.must_not, wanted.should, least):
        for condition in part if isinstance(part, list) else [part]:
            match condition:
                case models.NestedCondition():
                    yield from _each_condition(condition.nested.filter)
                case models.Filter():
                    yield from _each_condition(condition)
                case None:
                    pass
                case _:
                    yield condition
