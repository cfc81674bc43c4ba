"""Temporary folders that do not outlive their process for long: a killed one's go at the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "vecmigrate-snapshot-"


class Scratch:
    """A folder of this process, in ``TMPDIR``, until it is closed.

    Attributes
    ----------
    path
        The folder.
    """

    def __init__(self) -> None:
        remove_stale()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            held = _hold(self.path)
            # Another process may have taken it for a killed one's, before it was held.
            if held is not None:
                self._held = held
                return

    def close(self) -> None:
        """Remove the folder; may be called again."""
        if self._held >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
            self._held = -1


def remove_stale() -> list[Path]:
    """Remove what killed processes left, and return it."""
    removed = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        held = _hold(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)
            removed.append(path)
    return removed


def _hold(path: Path) -> int | None:
    """Lock a folder of this user; None if another process has it, or it is gone."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(held).st_uid != os.getuid():
            raise BlockingIOError
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists():
            raise BlockingIOError
    except OSError:
        os.close(held)
        return None
    return held
