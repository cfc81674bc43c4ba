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
        Where the lock's file cannot be made.
    """
    path = folder / f"{key}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise WriteError(
            f"the lock {path} cannot be made: {error.strerror}",
            remedy="Name a writable state file with --state.",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"{what} is being done by {_holder(path)}", remedy="Let it finish, or stop it."
            ) from error
        file.truncate(0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        file.write(json.dumps(holder))
        file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
