"""Which points changed, by the index of a payload field that tells when."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from qdrant_client import models

from vecmigrate_qdrant.points import Only

_SPECIAL = frozenset('.[]"')
# Qdrant keeps microseconds, as Python does, but may round what has more digits otherwise.
_MARGIN = timedelta(milliseconds=1)
_NUMBERS = (models.PayloadSchemaType.INTEGER, models.PayloadSchemaType.FLOAT)


@dataclass(frozen=True, slots=True)
class Changed:
    """What to ask for.

    Attributes
    ----------
    later
        The points whose field is not before a value, or is not there; some of those just before
        that value, too.
    unclear
        The points whose field holds something that the index does not know.
    """

    later: Only
    unclear: Only


def changed_since(
    schema: Mapping[str, models.PayloadIndexInfo], field: str, value: float
) -> Changed | None:
    """Return what to ask for, or None if the collection has no index that tells.

    Parameters
    ----------
    schema
        The collection's payload indexes.
    value
        A number, or the seconds since 1970 of a time.
    """
    index = schema.get(field)
    # Qdrant takes such a name for a path into the payload.
    if index is None or _SPECIAL & set(field) or not math.isfinite(value):
        return None
    every: models.FieldCondition
    if index.data_type in _NUMBERS and getattr(index.params, "range", None) is not False:
        # An integer beyond 53 bits may be a little less than the number that it was rounded to.
        later = _within(field, models.Range(gte=math.nextafter(value, -math.inf)))
        every = _within(field, models.Range(gte=-sys.float_info.max))
    elif index.data_type == models.PayloadSchemaType.DATETIME:
        try:
            least = datetime.fromtimestamp(value, UTC) - _MARGIN
        except (OverflowError, ValueError, OSError):
            return None
        later = _within(field, models.DatetimeRange(gte=least))
        first = datetime.min.replace(tzinfo=UTC)
        every = _within(field, models.DatetimeRange(gte=first))
    else:
        return None
    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
    return Changed(
        Only(matching=models.Filter(should=[later, empty])),
        Only(matching=models.Filter(must_not=[every, empty])),
    )


def _within(field: str, bounds: models.Range | models.DatetimeRange) -> models.FieldCondition:
    return models.FieldCondition(key=field, range=bounds)
