"""What Parquet files say of themselves."""

from __future__ import annotations

from collections.abc import Sequence

from vecmigrate.connector import (
    CollectionDescription,
    Metric,
    Payload,
    PointId,
    detect_id_kind,
    detect_text_field,
    name_some,
)
from vecmigrate_files.columns import ROW_NUMBERS, Columns
from vecmigrate_files.marks import ParquetMark
from vecmigrate_files.parquet_files import ParquetFiles
from vecmigrate_files.payload_reading import PayloadReader
from vecmigrate_files.place import Place
from vecmigrate_files.settings import settings_of
from vecmigrate_files.vectors import is_vector


def describe_files(
    place: Place,
    files: ParquetFiles,
    columns: Columns,
    payloads: PayloadReader,
    mark: ParquetMark | None,
    *,
    dimension: int,
    ids: Sequence[PointId],
    sample: Sequence[Payload],
) -> CollectionDescription:
    """Describe files by their footers, and the ids and payloads of their first rows.

    Raises
    ------
    InputError
        Where there is no payload field of the name that the URI gives the text.
    """
    fields = dict.fromkeys([*payloads.fields, *(name for p in sample for name in p)])
    groups = sum(file.footer.num_row_groups for file in files.files)
    noted = (mark.text if mark else None) or detect_text_field(sample)
    return CollectionDescription(
        uri=str(place.uri),
        store="parquet",
        index_type=f"no index ({_counted(len(files.files), 'file')}, "
        f"{_counted(groups, 'row group')})",
        count=files.count,
        dimension=dimension,
        metric=place.metric() or (mark.metric if mark else Metric.COSINE),
        id_kind=detect_id_kind(ids),
        payload_fields=tuple(fields),
        text_field=place.text_field(noted, fields),
        settings=settings_of(files.files[0], columns, payloads),
        notes=tuple(_notes(place, columns, payloads, mark)),
        provenance=mark.provenance if mark else None,
    )


def _notes(
    place: Place, columns: Columns, payloads: PayloadReader, mark: ParquetMark | None
) -> list[str]:
    notes = []
    if mark is None and place.metric() is None:
        notes.append("nothing tells the metric: taken as cosine; or ?metric=")
    if columns.id is None:
        notes.append(f"ids are row numbers, as ?id={ROW_NUMBERS} asks for")
    lists = [field.name for field in columns.payload if is_vector(field.type)]
    if lists:
        notes.append(f"lists of floats carried as payload, not translated: {name_some(lists)}")
    if payloads.left_out:
        notes.append(f"columns not carried over: {name_some(payloads.left_out)}")
    return notes


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")
