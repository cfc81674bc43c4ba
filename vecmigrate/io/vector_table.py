"""Parquet tables of ids and vectors, a JSON header in the schema's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from vecmigrate.errors import InputError, reason_of
from vecmigrate.io.atomic import published
from vecmigrate.points.batch import IdArray, Vectors, id_array

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER = b"vecmigrate"


def write_table(path: Path, columns: dict[str, Any], header: BaseModel) -> None:
    """Write columns (``(n,)`` ids, ``(n, d)`` float32 vectors) as Parquet, in one step.

    Raises
    ------
    WriteError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: _vector_column(values) if values.ndim == 2 else _id_column(values)
        for name, values in columns.items()
    }
    table = pa.table(arrays).replace_schema_metadata({_HEADER: header.model_dump_json()})
    with published(path) as partial:
        pq.write_table(table, partial, compression="none", use_dictionary=False)


def read_table(path: Path, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`write_table` wrote: columns by name, and the header.

    Parameters
    ----------
    what
        The kind of file, for errors: "an anchor file".

    Raises
    ------
    InputError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=True)
        header = (table.schema.metadata or {}).get(_HEADER)
        if header is None:
            raise ValueError("vecmigrate did not write it")
        columns = {
            name: _vectors(column) if pa.types.is_fixed_size_list(column.type) else _ids(column)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        return columns, json.loads(header)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist", remedy=f"Give {what} that vecmigrate wrote."
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise not_readable(path, what, error) from error


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file that :func:`write_table` wrote; None of any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        header = json.loads((pq.read_schema(path).metadata or {}).get(_HEADER, b"null"))
    except (OSError, pa.ArrowException, ValueError):
        return None
    return header if isinstance(header, dict) else None


def not_readable(path: str | Path, what: str, error: Exception) -> InputError:
    """Return the error for a file that is not ``what`` it should be."""
    return InputError(
        f"{path} is not {what} ({reason_of(error)})", remedy=f"Give {what} that vecmigrate wrote."
    )


def _vector_column(vectors: Vectors) -> pa.Array:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _vectors(column: pa.ChunkedArray) -> Vectors:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(-1, column.type.list_size), dtype=np.float32)


def _id_column(ids: IdArray) -> pa.Array:
    """Integers as they are; strings, and integers mixed with them, as JSON."""
    import pyarrow as pa

    if ids.dtype == np.int64:
        return pa.array(ids)
    return pa.array([json.dumps(i) for i in ids.tolist()], pa.string())


def _ids(column: pa.ChunkedArray) -> IdArray:
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return id_array(column.to_pylist())
    return id_array(json.loads(i) for i in column.to_pylist())
