"""Vectors as Arrow columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecmigrate.connector import IdArray, InputError, Vectors


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
