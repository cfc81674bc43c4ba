"""Vectors as Arrow columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vecmigrate.connector import IdArray, InputError, Vectors
from vecmigrate_files.ids import IdColumn, plain_ids
from vecmigrate_files.place import reading


def is_vector(type_: Any) -> bool:
    """True for lists of floats, of a fixed size or not."""
    type_ = stored_type(type_)
    t = pa.types
    is_list = t.is_fixed_size_list(type_) or t.is_list(type_) or t.is_large_list(type_)
    return bool(is_list and t.is_floating(type_.value_type) and fixed_size(type_) != 0)


def stored_type(type_: Any) -> Any:
    """Return what an extension type, as a tensor's, is stored as."""
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_


def fixed_size(type_: Any) -> int | None:
    """Return the length that the type gives to all vectors; None where it gives none."""
    type_ = stored_type(type_)
    return int(type_.list_size) if pa.types.is_fixed_size_list(type_) else None


def vectors_in(column: Any, ids: IdArray, dimension: int, row: Callable[[int], str]) -> Vectors:
    """Return an Arrow array's vectors, ``(n, dimension)`` float32; no copy of float32.

    Parameters
    ----------
    ids
        ``(n,)`` ids, for messages.
    row
        Names a row to a user.

    Raises
    ------
    InputError
        Where a row has none, one of another length, or one with a component that is null.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if column.null_count:
        _refuse(column.is_null(), ids, row, "has no vector")
    if fixed_size(column.type) is None:
        lengths = pc.list_value_length(column)
        uneven = pc.not_equal(lengths, dimension)
        if pc.any(uneven).as_py():
            at = int(np.flatnonzero(uneven.to_numpy(zero_copy_only=False))[0])
            said = f"has a vector of {lengths[at]} components, the first row one of {dimension}"
            _refuse(uneven, ids, row, said)
    flat = column.flatten()
    if flat.null_count:
        broken = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, dimension)
        _refuse(pa.array(broken.any(axis=1)), ids, row, "has a vector with a null in it")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and screened as such
        return np.ascontiguousarray(
            flat.to_numpy(zero_copy_only=False).reshape(-1, dimension), dtype=np.float32
        )


def _refuse(mask: Any, ids: IdArray, row: Callable[[int], str], said: str) -> None:
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    at = int(rows[0])
    more = f", and {len(rows) - 1} more rows of this batch" if len(rows) > 1 else ""
    raise InputError(
        f"{row(at)} (id {ids[at]}) {said}{more}",
        remedy="Give these rows whole vectors of one length, or take them out.",
    )


def vector_array(vectors: Vectors) -> Any:
    """Return ``(n, d)`` float32 as an Arrow array of lists of a fixed size; no copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


_IDS_A_STEP = 1 << 16


def open_vectors(what: object, path: Path) -> NDArray[Any]:
    """Map an array of vectors, ``(n, d)`` float16, float32 or float64, without reading it.

    Raises
    ------
    InputError
        Where it is not there, or is none.
    """
    array = _mapped(what, path)
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind != "f":
        raise InputError(
            f"{path} holds an array of {array.dtype} and shape {array.shape}, no vectors",
            remedy="Save floats of the shape (vectors, dimensions), by numpy.save.",
        )
    return array


def open_ids(what: object, path: Path, count: int) -> IdColumn:
    """Read an array of ``count`` ids.

    Raises
    ------
    InputError
        Where there are more or fewer, or they are neither integers nor text.
    """
    array = _mapped(what, path)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise InputError(
            f"{path} holds an array of {array.dtype} and shape {array.shape}, no ids",
            remedy="Save integers or text of the shape (vectors,), by numpy.save.",
        )
    if len(array) != count:
        raise InputError(
            f"{path} holds {len(array)} ids, and there are {count} vectors",
            remedy="Save one id for each row of the vectors.",
        )
    parts = [
        _part(path, array[start : start + _IDS_A_STEP], start)
        for start in range(0, count, _IDS_A_STEP)
    ]
    return IdColumn(pa.chunked_array(parts or [pa.array([], pa.int64())]))


def _part(path: Path, ids: NDArray[Any], start: int) -> Any:
    with reading(path):
        if ids.dtype.kind == "S":
            ids = np.char.decode(ids, "utf-8")
        if not ids.dtype.isnative:
            ids = ids.astype(ids.dtype.newbyteorder("="))
        column = pa.array(ids)
    return plain_ids(column, lambda at: f"{path} row {start + at}")


def _mapped(what: object, path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise InputError(
            f"{what}: {path} is not there", remedy="Name a file that numpy.save has written."
        )
    with reading(path):
        try:
            # Refuses arrays of Python objects, which only unpickling would read.
            return np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            if "Python objects" not in str(error):
                raise
            raise InputError(
                f"{path} holds an array of Python objects, which is not read",
                remedy="Save an array of numbers, or of text (astype(str)), by numpy.save.",
            ) from error
