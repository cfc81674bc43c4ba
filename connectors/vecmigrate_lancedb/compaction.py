"""What the steps by which a table was written leave in it."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

import pyarrow.compute as pc

_ROWS_A_STEP = 1000


def delete_superseded(table: Any, column: str) -> None:
    """Leave each id's last row alone.

    LanceDB numbers rows in the order of writing. Reads the ids, all at once, and no vectors.
    """
    rows = table.search().select([column]).with_row_id(True).to_arrow()
    ids = rows[column]
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    last = rows.group_by(column).aggregate([("_rowid", "max")])["_rowid_max"]
    old = rows["_rowid"].filter(pc.invert(pc.is_in(rows["_rowid"], value_set=last)))
    for start in range(0, len(old), _ROWS_A_STEP):
        listed = ", ".join(map(str, old.slice(start, _ROWS_A_STEP).to_pylist()))
        table.delete(f"_rowid IN ({listed})")


def compact(table: Any) -> None:
    """Join the small files of many writes and delete all older versions of a table that none reads.

    To be done before the table has an index: LanceDB joins small partitions of one that it has.
    """
    with warnings.catch_warnings():  # that readers of older versions would fail
        warnings.simplefilter("ignore", UserWarning)
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def go_back(table: Any, version: int) -> bool:
    """Make an older version of a table the latest one; False where it has never been.

    A version that :func:`compact` has deleted was followed by one with all of its points, which
    stays as it is: what is written again supersedes what is there.
    """
    kept = {v["version"] for v in table.list_versions()}
    if version in kept:
        table.checkout(version)
        table.restore()
    return version in kept or version < table.version
