"""Arrays of vectors and of ids, mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vecmigrate.connector import InputError, arrow
from vecmigrate_files.ids import IdColumn
from vecmigrate_files.place import reading

_IDS_A_STEP = 1 << 16


def open_vectors(what: object, path: Path) -> NDArray[Any]:
    """Map an array of vectors, ``(n, d)`` float16, float32 or float64, without reading it.

    Raises
    ------
    InputError
        If it is not there, or is none.
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
        If there are more or fewer, or they are neither integers nor text.
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
    return arrow.plain_ids(column, lambda at: f"{path} row {start + at}")


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
