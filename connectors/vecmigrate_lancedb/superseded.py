"""Rows whose id was written again later."""

from __future__ import annotations

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
