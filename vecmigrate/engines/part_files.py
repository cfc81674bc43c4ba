"""Files that workers make: there whole or not at all, however many make the same one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vecmigrate.errors import WriteError

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
