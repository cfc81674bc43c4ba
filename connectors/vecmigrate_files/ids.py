"""Ids as Arrow columns, read and written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vecmigrate.connector import (
    IdArray,
    InputError,
    MismatchError,
    PointId,
    id_array,
)


def is_id(type_: Any) -> bool:
    """True for integers, text, UUIDs, and dictionaries of them."""
    if pa.types.is_dictionary(type_):
        return is_id(type_.value_type)
    return pa.types.is_integer(type_) or is_text(type_) or is_uuid(type_)


def is_text(type_: Any) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def is_uuid(type_: Any) -> bool:
    return isinstance(type_, pa.BaseExtensionType) and type_.extension_name == "arrow.uuid"


def plain_ids(column: Any, row: Callable[[int], str]) -> Any:
    """Return an Arrow array of ids as int64, uint64 or text.

    Parameters
    ----------
    row
        Names a row to a user.

    Raises
    ------
    InputError
        Where a row has none, or a negative one, which is no id.
    """
    if column.null_count:
        at = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{row(at)} has no id", remedy="Give each row an id of its own.")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_uuid(column.type):
        return pa.array([str(i) for i in column.to_pylist()], pa.large_string())
    if not pa.types.is_integer(column.type):
        return column.cast(pa.large_string())  # one type, whatever the files have
    if column.type != pa.uint64():
        column = column.cast(pa.int64())
        negative = np.flatnonzero(column.to_numpy() < 0)
        if len(negative):
            at = int(negative[0])
            raise InputError(
                f"{row(at)} has the negative id {column[at]}",
                remedy="Name a column of ids from 0 on.",
            )
    return column


def ids_of(column: Any) -> IdArray:
    """Return what :func:`plain_ids` made as an :data:`IdArray`; int64 without a copy."""
    if column.type == pa.int64():
        return np.asarray(column.to_numpy())
    return id_array(column.to_pylist())


def id_type(ids: IdArray, preferred: Any | None, what: object) -> Any:
    """Choose the Arrow type of a column that begins with these ids.

    Parameters
    ----------
    preferred
        Taken where it is of their kind: the type that the source's column has.

    Raises
    ------
    MismatchError
        Where they are of several kinds.
    """
    found = id_column(ids, None, what).type
    if preferred is not None and not pa.types.is_dictionary(preferred):
        worded = not pa.types.is_integer(preferred)
        if worded == is_text(found):
            return preferred
    return found


def id_column(ids: IdArray, type_: Any | None, what: object) -> Any:
    """Return ids as an Arrow array of ``type_``, of int64, uint64 or text where that is None.

    Raises
    ------
    MismatchError
        Where a file cannot hold one of them.
    """
    try:
        if ids.dtype == np.int64 and (type_ is None or pa.types.is_integer(type_)):
            return pa.array(ids).cast(type_ or pa.int64())
        return _converted(ids.tolist(), type_)
    except _UNFIT:
        strange = _misfit(ids.tolist(), type_)
    raise MismatchError(
        f"{what} cannot hold the id {strange}: its ids are "
        f"{'integers or text' if type_ is None else f'of type {type_}'}, all of one kind",
        remedy="Choose another store, or give the points ids of one kind.",
    )


_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)


def _converted(ids: list[Any], type_: Any | None) -> Any:
    if all(isinstance(i, str) for i in ids):
        if type_ is not None and is_uuid(type_):
            if any(str(uuid.UUID(i)) != i for i in ids):
                raise ValueError("a UUID that is spelled otherwise")
            return pa.array([uuid.UUID(i).bytes for i in ids], type_)
        if type_ is not None and not is_text(type_):
            raise TypeError("text among integers")
        return pa.array(ids, type_ or pa.string())
    if any(isinstance(i, str) for i in ids) or not (type_ is None or pa.types.is_integer(type_)):
        raise TypeError("integers among text")
    return pa.array([int(i) for i in ids], type_ or pa.uint64())


def _misfit(ids: list[Any], type_: Any | None) -> Any:
    """Return the first id that cannot be, or that is of another kind than those before it."""
    for point_id in ids:
        try:
            _converted([point_id], type_)
        except _UNFIT:
            return point_id
    return next(i for i in ids if isinstance(i, str) != isinstance(ids[0], str))


def last_rows(ids: Any) -> NDArray[np.bool_] | None:
    """Return a mask of each id's last row; None where no id comes twice.

    Parameters
    ----------
    ids
        An Arrow chunked array of what :func:`plain_ids` made.
    """
    if pa.types.is_integer(ids.type):
        numbers = ids.to_numpy()
        if bool((numbers[1:] > numbers[:-1]).all()):
            return None
    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    rows = pa.table({"id": ids, "row": np.arange(len(ids))})
    mask = np.zeros(len(ids), dtype=np.bool_)
    mask[rows.group_by("id").aggregate([("row", "max")])["row_max"].to_numpy()] = True
    return mask


class IdColumn:
    """All ids of a collection, by row: 8 bytes an integer, or the texts in one piece.

    Parameters
    ----------
    ids
        An Arrow chunked array of what :func:`plain_ids` made.
    """

    def __init__(self, ids: Any) -> None:
        self._ids = ids

    def slice(self, start: int, length: int) -> IdArray:
        """Return the ids of some rows."""
        return ids_of(self._ids.slice(start, length))

    def first_repeated(self) -> tuple[PointId, int, int] | None:
        """Return an id that comes twice, and two of its rows; None where none does."""
        mask = last_rows(self._ids)
        if mask is None:
            return None
        first = int(np.flatnonzero(~mask)[0])
        found: PointId = self._ids[first].as_py()
        rows = np.flatnonzero(pc.equal(self._ids, self._ids[first]).to_numpy())
        return found, first, int(rows[1])

    def rows(self, wanted: Sequence[PointId]) -> NDArray[np.int64]:
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 where it is not there."""
        type_ = self._ids.type
        top = 2**63 if type_ == pa.int64() else 2**64
        possible = {
            i: None
            for i in wanted
            if (isinstance(i, str) if is_text(type_) else not isinstance(i, str) and 0 <= i < top)
        }
        # The few are hashed and the many looked up: no second copy of the ids is made.
        at = pc.index_in(self._ids, value_set=pa.array(list(possible), type_))
        at = at.fill_null(-1).to_numpy()
        row_of = np.full(len(possible), -1, dtype=np.int64)
        there = np.flatnonzero(at >= 0)
        row_of[at[there]] = there
        places = {i: int(row) for i, row in zip(possible, row_of.tolist(), strict=True)}
        return np.fromiter((places.get(i, -1) for i in wanted), np.int64, len(wanted))

    def __len__(self) -> int:
        return len(self._ids)


class RowNumbers:
    """Stands for an :class:`IdColumn` of 0 to ``count - 1``, holding none of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def slice(self, start: int, length: int) -> NDArray[np.int64]:
        """Return the ids of some rows."""
        return np.arange(start, min(start + length, self._count), dtype=np.int64)

    def first_repeated(self) -> None:
        """There is none."""

    def rows(self, wanted: Sequence[PointId]) -> NDArray[np.int64]:
        """Return ``(m,)`` int64 row of each of ``m`` ids, -1 where it is not there."""
        there = (i if isinstance(i, int) and 0 <= i < self._count else -1 for i in wanted)
        return np.fromiter(there, np.int64, len(wanted))

    def __len__(self) -> int:
        return self._count
