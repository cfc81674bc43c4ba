"""Writes Parquet files in row groups of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.connector import sync_path
from vecmigrate_files.data_file import in_groups

GROUP_BYTES = 64 << 20
"""Vectors in a row group take as much, uncompressed."""

_ROWS = (1000, 100_000)


def group_rows(dimension: int) -> int:
    """Return the rows of a row group: 64 MiB of float32 vectors, 1,000 to 100,000 rows."""
    return min(max(_ROWS[0], GROUP_BYTES // (4 * dimension)), _ROWS[1])


def write_part(path: Path, schema: Any, batches: Iterable[Any], rows: int, vector: str) -> None:
    """Write a file, durable.

    Parameters
    ----------
    batches
        Arrow record batches with the columns of ``schema``, dictionaries decoded.
    rows
        In a row group.
    vector
        The column of vectors, which neither dictionaries nor statistics help.
    """
    others = [name for name in schema.names if name != vector]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=others,
        write_statistics=others,
        write_page_checksum=True,
    ) as writer:
        for group in _joined(batches, rows):
            writer.write_table(group.cast(schema), row_group_size=rows)
    sync_path(path)


def keep_rows(path: Path, schema: Any, mask: NDArray[Any], rows: int, vector: str) -> None:
    """Write a file again with the rows of ``mask``, in its place."""
    made = path.with_name(f".{path.name}")
    write_part(made, schema, _masked(path, mask, rows), rows, vector)
    made.replace(path)


def _masked(path: Path, mask: NDArray[Any], rows: int) -> Iterator[Any]:
    done = 0
    with pq.ParquetFile(path) as file:
        for batch in in_groups(file, rows):
            yield batch.filter(pa.array(mask[done : done + batch.num_rows]))
            done += batch.num_rows


def _joined(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Yield Arrow tables of ``rows`` rows, the last one fewer."""
    held: list[Any] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            table = pa.Table.from_batches(held)
            whole = count - count % rows
            for start in range(0, whole, rows):
                yield table.slice(start, rows)
            held, count = table.slice(whole).to_batches(), count % rows
    if count:
        yield pa.Table.from_batches(held)
