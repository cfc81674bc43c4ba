"""Files that appear at their name whole or not at all, and locks that a kill releases."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vecmigrate.errors import VecmigrateError, WriteError


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield the name to write to; the file gets the name ``path`` when all went well.

    Raises
    ------
    WriteError
        Where the disk refuses; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}",
            remedy="Check the folder and its free space.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


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


TEMPORARY = ".writing-"
"""What the name of an unfinished file begins with; the process that writes it comes next."""


def unwritable(path: Path, error: OSError) -> WriteError:
    """Return what to raise for a file of the folder of parts that cannot be written."""
    return WriteError(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="Free disk space, or name another folder with --parts; the same command continues.",
    )


@contextmanager
def part_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file under another name; once it is on the disk it gets its own.

    Raises
    ------
    WriteError
        Where the disk refuses; nothing is left behind.
    """
    unfinished = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
