"""Filters as Qdrant's own engine takes them, from qdrant-client's."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import models


def engine_filter(wanted: models.Filter | None) -> edge.Filter | None:
    """Return a filter as the engine takes it.

    Raises
    ------
    ValueError, AttributeError
        If the engine has nothing of the kind.
    """
    return None if wanted is None else _filter(wanted)


def _filter(wanted: models.Filter) -> edge.Filter:
    least = None
    if wanted.min_should is not None:
        conditions = _conditions(wanted.min_should.conditions)
        least = edge.MinShould(conditions, wanted.min_should.min_count)
    return edge.Filter(
        must=_conditions(wanted.must),
        should=_conditions(wanted.should),
        must_not=_conditions(wanted.must_not),
        min_should=least,
    )


def _conditions(conditions: Any) -> Any:
    """Return one condition or several as a list, None for none."""
    if not conditions:
        return None  # Of an empty list within a nested filter the engine lets nothing through.
    several = conditions if isinstance(conditions, list) else [conditions]
    return [_condition(each) for each in several]


def _condition(condition: models.Condition) -> Any:
    match condition:
        case models.Filter():
            return _filter(condition)
        case models.FieldCondition():
            return _field_condition(condition)
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(condition.is_null.key)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case models.HasVectorCondition():
            return edge.HasVectorCondition(condition.has_vector)
        case models.NestedCondition():
            return edge.NestedCondition(condition.nested.key, _filter(condition.nested.filter))
    raise ValueError(f"the engine has no {type(condition).__name__}")


def _field_condition(condition: models.FieldCondition) -> edge.FieldCondition:
    bounds: Any = None
    if isinstance(condition.range, models.DatetimeRange):
        bounds = edge.RangeDateTime(**_told(condition.range))
    elif condition.range is not None:
        bounds = edge.RangeFloat(**_told(condition.range))
    box, circle, polygon = (
        condition.geo_bounding_box,
        condition.geo_radius,
        condition.geo_polygon,
    )
    counts = condition.values_count
    return edge.FieldCondition(
        condition.key,
        match=None if condition.match is None else _match(condition.match),
        range=bounds,
        geo_bounding_box=None if box is None else _box(box),
        geo_radius=None if circle is None else edge.GeoRadius(_place(circle.center), circle.radius),
        geo_polygon=None if polygon is None else _polygon(polygon),
        values_count=None if counts is None else edge.ValuesCount(**_told(counts)),
        is_empty=condition.is_empty,
        is_null=condition.is_null,
    )


def _match(wanted: models.Match) -> Any:
    """Return a match as the engine's own of the same name, which has one argument."""
    (value,) = wanted.model_dump().values()
    return getattr(edge, type(wanted).__name__)(value)


def _box(box: models.GeoBoundingBox) -> edge.GeoBoundingBox:
    return edge.GeoBoundingBox(_place(box.top_left), _place(box.bottom_right))


def _polygon(polygon: models.GeoPolygon) -> edge.GeoPolygon:
    inner = [[_place(point) for point in line.points] for line in polygon.interiors or ()]
    return edge.GeoPolygon([_place(point) for point in polygon.exterior.points], inner)


def _place(point: models.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(point.lon, point.lat)


def _told(bounds: models.Range | models.DatetimeRange | models.ValuesCount) -> dict[str, Any]:
    return bounds.model_dump(mode="json", exclude_none=True)
