"""One run at a time for each job."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vecmigrate.errors import LockedError, WriteError


@contextmanager
def job_lock(folder: Path, key: str, what: str) -> Iterator[None]:
    """Hold the lock of the job ``key``, whose file in ``folder`` tells who holds it.

    The system gives it back when the process ends, however it does.

    Raises
    ------
    LockedError
        Where another run holds it, naming its process, machine and start.
    WriteError
        Where the lock's file cannot be made, or locked.
    """
    path = folder / f"{key}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that closing it has nothing left to write.
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise _no_lock(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"{what} is being done by {_holder(path)}", remedy="Let it finish, or stop it."
            ) from error
        except OSError as error:
            raise _no_lock(path, error) from error
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            file.truncate(0)
            file.write(json.dumps(holder).encode())
        except OSError as error:
            raise _no_lock(path, error) from error
        yield


def _no_lock(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"the lock {path} cannot be made: {error.strerror or error}",
        remedy="Name a state file on a local disk with free space, with --state.",
    )


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
