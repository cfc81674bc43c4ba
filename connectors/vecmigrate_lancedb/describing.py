"""What a table says of itself."""

from __future__ import annotations

from typing import Any

from vecmigrate.connector import (
    CollectionDescription,
    InputError,
    Metric,
    UsageError,
    detect_id_kind,
    detect_text_field,
    name_some,
)
from vecmigrate_lancedb.columns import Columns, ids_in
from vecmigrate_lancedb.index import read_index
from vecmigrate_lancedb.marks import Mark
from vecmigrate_lancedb.payload_reading import PayloadReader
from vecmigrate_lancedb.place import Place
from vecmigrate_lancedb.settings import settings_of

DISTANCES = {Metric.COSINE: "cosine", Metric.DOT: "dot", Metric.EUCLID: "l2"}
"""LanceDB's names of the metrics."""

_METRICS = {distance: metric for metric, distance in DISTANCES.items()}
_SAMPLE = 100


def describe_table(
    place: Place, table: Any, columns: Columns, payloads: PayloadReader, mark: Mark | None
) -> CollectionDescription:
    """Describe a table by its schema, its index and its first rows.

    Raises
    ------
    InputError
        Where its index is by a distance that no collection of vecmigrate has.
    UsageError
        Where the URI names another metric than the index has.
    """
    head = table.search().select([columns.id, *payloads.columns]).limit(_SAMPLE).to_arrow()
    sample = payloads.read(head)
    index, distance = read_index(table, columns.vector, columns.dimension) or (None, None)
    return CollectionDescription(
        uri=str(place.uri),
        store="lancedb",
        index_type=str(index) if index else "no index",
        count=table.count_rows(),
        dimension=columns.dimension,
        metric=_metric(place, distance, mark),
        id_kind=detect_id_kind(ids_in(head[columns.id], place.uri).tolist()),
        payload_fields=tuple(
            dict.fromkeys([*payloads.fields, *(name for payload in sample for name in payload)])
        ),
        text_field=place.option("text")
        or (mark.text if mark else None)
        or detect_text_field(sample),
        settings=settings_of(table.schema, columns, payloads, index),
        notes=tuple(_notes(place, payloads, mark, indexed=index is not None)),
        provenance=mark.provenance if mark else None,
    )


def _metric(place: Place, distance: str | None, mark: Mark | None) -> Metric:
    asked = place.metric()
    if distance is None:
        return asked or (mark.metric if mark else Metric.EUCLID)
    if distance not in _METRICS:
        raise InputError(
            f"{place.uri} has an index by {distance} distance",
            remedy="vecmigrate moves float vectors by l2, cosine or dot.",
        )
    if asked not in (None, _METRICS[distance]):
        raise UsageError(f"{place.uri} has an index by {distance}", remedy="Take metric= out.")
    return _METRICS[distance]


def _notes(place: Place, payloads: PayloadReader, mark: Mark | None, *, indexed: bool) -> list[str]:
    notes = []
    if not indexed:
        notes.append("no vector index: a search reads every vector")
        if mark is None and place.metric() is None:
            notes.append("no index tells the metric: taken as l2, LanceDB's own; or ?metric=")
    if payloads.left_out:
        notes.append(f"columns not carried over: {name_some(payloads.left_out)}")
    return notes
