"""Files that outlive a kill, and locks that do not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from vecmigrate.errors import VecmigrateError


def sync_path(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(path: Path, taken: VecmigrateError) -> IO[bytes]:
    """Lock a file, made where it is not there, until it is closed; the process's end closes it.

    Raises
    ------
    VecmigrateError
        ``taken``, where another process, or another lock of this one, has it.
    """
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise taken from error
    return lock
