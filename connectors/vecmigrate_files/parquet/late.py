"""Which rows of Parquet files changed, by the statistics of row groups and one column."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecmigrate.connector import arrow, is_before
from vecmigrate_files.parquet.data_file import DataFile, in_groups, open_file
from vecmigrate_files.parquet.files import ParquetFiles
from vecmigrate_files.place import reading

_ROWS_A_STEP = 1 << 16


def late_rows(
    files: ParquetFiles, field: str, rest: str | None, since: float
) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers, ascending, of the rows whose field is not before a value.

    Rows that have no value in the field are among them.

    Parameters
    ----------
    rest
        The column with further fields as JSON, if there is one.
    """
    for file in files.files:
        names = file.columns_among([field, *([rest] if rest else [])])
        reader = arrow.PayloadReader(map(file.schema.field, names), rest=rest)
        for group in range(file.footer.num_row_groups):
            first = file.first + file.bounds[group]
            if not names:
                yield first + np.arange(file.footer.row_group(group).num_rows)
            elif not _is_early(file, group, field, rest, since):
                yield from _late_in(file, group, names, reader, field, since)


def _late_in(
    file: DataFile,
    group: int,
    names: list[str],
    reader: arrow.PayloadReader,
    field: str,
    since: float,
) -> Iterator[NDArray[np.int64]]:
    at = file.first + file.bounds[group]
    with reading(file.path), open_file(file) as opened:
        for rows in in_groups(opened, _ROWS_A_STEP, range(group, group + 1), names):
            payloads = reader.read(rows)
            late = [not is_before(payload.get(field), since) for payload in payloads]
            yield at + np.flatnonzero(np.array(late, np.bool_))
            at += rows.num_rows


def _is_early(file: DataFile, group: int, field: str, rest: str | None, since: float) -> bool:
    """Tell by the statistics that no row of a group is late."""
    columns = {}
    footer = file.footer.row_group(group)
    for number in range(footer.num_columns):
        column = footer.column(number)
        columns[column.path_in_schema] = column.statistics
    further = columns.get(rest) if rest else None
    if rest in columns and (further is None or further.null_count != footer.num_rows):
        return False
    told = columns.get(field)
    if told is None or not told.has_min_max or told.null_count != 0:
        return False
    latest = _number(file.schema.field(field).type, told.max)
    return latest is not None and latest < since


def _number(type_: Any, value: Any) -> float | None:
    """Return what a payload's value is as a number; None for types whose order is not known."""
    # Statistics of floats leave NaN out, which is no time.
    if pa.types.is_integer(type_):
        return float(value)
    if pa.types.is_timestamp(type_) and isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return None
