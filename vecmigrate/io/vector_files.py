"""Reads files of ready-made vectors: ``.npy``, ``.npz`` and ``.parquet``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vecmigrate.errors import InputError, reason_of
from vecmigrate.points.batch import IdArray, Vectors, id_array
from vecmigrate.points.ids import IdLookup, RowNumbers, lookup_of

SUFFIXES = (".npy", ".npz", ".parquet")

_PARQUET_ROWS = 16384
# What the readers raise on files that are cut short, altered or of another kind.
_MALFORMED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException)
_FLOATS = tuple(np.dtype(kind) for kind in (np.float16, np.float32, np.float64))


def open_vectors(path: str | Path) -> NDArray[np.floating]:
    """Memory-map a ``.npy`` file of ``(n, d)`` floats.

    Raises
    ------
    InputError
        If the file is missing, is not ``.npy`` or holds something else. Pickles are refused.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", remedy="Give a .npy file.") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is not a readable .npy file ({str(error).splitlines()[0]})",
            remedy="Save it with numpy.save, as floats.",
        ) from error
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 2
        or not np.issubdtype(array.dtype, np.floating)
    ):
        raise InputError(
            f"{path} does not hold (n, d) floats",
            remedy="Save a 2-D float array, one row a vector.",
        )
    return array


@dataclass(frozen=True, slots=True)
class VectorFile:
    """Vectors and where each id's is.

    Attributes
    ----------
    lookup
        Finds the rows of ids.
    stored
        ``(n, d)`` floats of the file's own type, at least one row; memory-mapped from ``.npy``.
    """

    lookup: IdLookup
    stored: NDArray[np.floating]


def read_vector_file(path: Path, *, id_column: str, vector_column: str) -> VectorFile:
    """Read a file of vectors, by its suffix.

    Raises
    ------
    InputError
        If there is no such file, or what it holds are not vectors with an id each.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", remedy="Check the path after vectors:.")
    if path.suffix == ".npy":
        return _read_npy(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".parquet":
        return _read_parquet(path, id_column, vector_column)
    raise InputError(
        f"{path} is not of a kind that holds vectors", remedy=f"Use one of {', '.join(SUFFIXES)}."
    )


def _read_npy(path: Path) -> VectorFile:
    with _readable(path):
        mapped = np.lib.format.open_memmap(path, mode="r")
    stored = _checked_vectors(path, mapped)
    return VectorFile(RowNumbers(len(stored)), stored)


def _read_npz(path: Path) -> VectorFile:
    with _readable(path):
        # numpy takes what is no archive for a pickle, and advises to trust it.
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is not an .npz archive, or not a whole one")
        with np.load(path, allow_pickle=False) as arrays:
            if not {"ids", "vectors"} <= set(arrays.files):
                raise InputError(
                    f"{path} holds the arrays {', '.join(sorted(arrays.files)) or 'none'}",
                    remedy="Save it with np.savez(FILE, ids=..., vectors=...).",
                )
            ids, stored = arrays["ids"], arrays["vectors"]
    if ids.dtype.kind not in "iuU" or ids.ndim != 1:
        raise InputError(
            f"the ids of {path} are a {ids.ndim}-D array of {ids.dtype}",
            remedy="Save them as a 1-D array of integers or of strings.",
        )
    return _keyed(path, id_array(ids.tolist()), _checked_vectors(path, stored))


def _read_parquet(path: Path, id_column: str, vector_column: str) -> VectorFile:
    with _readable(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for column, kinds, wanted in (
            (id_column, _ID_TYPES, "integers or strings"),
            (vector_column, _LIST_TYPES, "lists of floats"),
        ):
            if schema.get_field_index(column) < 0:
                raise InputError(
                    f"{path} has no column {column!r} but {', '.join(schema.names)}",
                    remedy="Name the columns with ?id=COLUMN&vector=COLUMN.",
                )
            if not any(getattr(pa.types, kind)(schema.field(column).type) for kind in kinds):
                raise InputError(
                    f"column {column!r} of {path} is {schema.field(column).type}",
                    remedy=f"Give a column of {wanted}.",
                )
        ids: list[Any] = []
        stored: Vectors | None = None
        for batch in file.iter_batches(_PARQUET_ROWS, columns=[id_column, vector_column]):
            rows = _parquet_rows(path, len(ids), batch.column(vector_column))
            if stored is None:
                stored = np.empty((file.metadata.num_rows, rows.shape[1]), np.float32)
            if rows.shape[1] != stored.shape[1]:
                raise _unequal(path, len(ids))
            stored[len(ids) : len(ids) + len(rows)] = rows
            ids.extend(batch.column(id_column).to_pylist())
    if stored is None:
        stored = np.empty((0, 0), np.float32)
    if None in ids:
        raise InputError(
            f"row {ids.index(None)} of {path} has no id", remedy="Give each row an id."
        )
    return _keyed(path, id_array(ids), _checked_vectors(path, stored))


_ID_TYPES = ("is_integer", "is_string", "is_large_string")
_LIST_TYPES = ("is_list", "is_large_list", "is_fixed_size_list")


def _parquet_rows(path: Path, first: int, column: Any) -> NDArray[np.floating]:
    """Turn a list column, whose first row is the file's row ``first``, into a matrix."""
    values = column.flatten()
    if column.null_count or values.null_count or not pa.types.is_floating(values.type):
        raise InputError(
            f"{path} has rows from {first} on without a vector of floats",
            remedy="Give each row a list of floats without nulls.",
        )
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    unequal = np.flatnonzero(lengths != lengths[0])
    if len(unequal):
        raise _unequal(path, first + int(unequal[0]))
    rows: NDArray[np.floating] = values.to_numpy(zero_copy_only=False)
    return rows.reshape(len(column), int(lengths[0]))


def _unequal(path: Path, row: int) -> InputError:
    return InputError(
        f"row {row} of {path} has a vector of another length than row 0",
        remedy="Use a file whose vectors come from one encoder.",
    )


def _checked_vectors(path: Path, stored: NDArray[Any]) -> NDArray[np.floating]:
    if stored.ndim != 2 or stored.dtype.newbyteorder("=") not in _FLOATS or not stored.size:
        raise InputError(
            f"the vectors of {path} are an array of {stored.dtype} of shape {stored.shape}",
            remedy="Save them as one (n, d) array of float16, float32 or float64.",
        )
    return stored


def _keyed(path: Path, ids: IdArray, stored: NDArray[np.floating]) -> VectorFile:
    if len(ids) != len(stored):
        raise InputError(
            f"{path} holds {len(ids)} ids and {len(stored)} vectors",
            remedy="Give each vector an id.",
        )
    listed = ids.tolist()
    seen: set[Any] = set()
    for point_id in listed:
        if point_id in seen:
            raise InputError(
                f"{path} holds id {point_id!r} twice", remedy="Give each id one vector."
            )
        if isinstance(point_id, int) and point_id < 0:
            raise InputError(
                f"{path} holds the negative id {point_id}",
                remedy="Ids are non-negative integers or strings.",
            )
        seen.add(point_id)
    return VectorFile(lookup_of(ids), stored)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what readers raise on a malformed file into one clear error."""
    try:
        yield
    except _MALFORMED as error:
        pickled = any(words in str(error) for words in ("Python objects", "Object arrays"))
        reason = "it holds pickled objects" if pickled else reason_of(error)
        raise InputError(
            f"{path} cannot be read: {reason}",
            remedy="Save plain arrays of numbers (ids may be strings), without pickle."
            if pickled
            else "Write the file anew, or check that its suffix tells its kind.",
        ) from error
