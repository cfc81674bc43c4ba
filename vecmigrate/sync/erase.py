"""Removes what vanished from files that hold points beside the target."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vecmigrate.encoders.metered import bought_files, without_bought
from vecmigrate.errors import InputError
from vecmigrate.migration.dead_letters import without_letters
from vecmigrate.points.batch import id_array
from vecmigrate.state.files import FileLog
from vecmigrate.state.ledger import Ledger
from vecmigrate.state.migrations import MigrationTable

_BATCH = 4096


def erase_vanished(
    ledger: Ledger,
    records: sqlite3.Connection,
    state: Path,
    source: str,
    run: str,
    announce: Callable[[str], None],
) -> None:
    """Remove points that the source does not have any more from dead letters and bought vectors.

    Before they are deleted at the target: after a kill they are still known to have vanished.

    Parameters
    ----------
    run
        That wrote the target; see :meth:`Provenance.run`.

    Raises
    ------
    WriteError
    """
    noted = FileLog(records).of(source)
    keys = [key for key, job in MigrationTable(records).all() if job.provenance.run() == run]
    letters = [state.parent / "dead-letters" / f"{key}.jsonl" for key in keys]
    for path in (*letters, *(path for path in noted if path.suffix == ".jsonl")):
        if path.is_file():
            rewriting = without_letters(
                path,
                lambda of, point: of == run and not ledger.among("seen", id_array([point]))[0],
            )
            if rewriting is not None:
                rewriting.carry_out(path)
    gone = list(ledger.listed("gone", _BATCH))
    if not gone:
        return
    ids = id_array(np.concatenate(gone).tolist())
    for path in dict.fromkeys(bought for each in noted for bought in bought_files(each)):
        try:
            rewriting = without_bought(path, ids)
        except InputError as error:
            announce(str(error))
            continue
        if rewriting is not None:
            rewriting.carry_out(path)
