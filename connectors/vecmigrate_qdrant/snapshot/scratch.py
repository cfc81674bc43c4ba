"""Temporary folders that do not outlive their process for long: a killed one's go at the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "vecmigrate-snapshot-"


class Scratch:
    """A folder in ``TMPDIR`` that this process alone uses, until it is closed."""

    def __init__(self, path: Path, held: int) -> None:
        self.path = path
        self._held: int | None = held

    @classmethod
    def make(cls) -> Scratch:
        """Make a new folder."""
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            held = _hold(path)
            # Another process may have taken it for a killed one's, before it was held.
            if held is not None:
                return cls(path, held)

    def close(self) -> None:
        """Remove the folder; may be called again."""
        if self._held is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self.keep()

    def keep(self) -> None:
        """Leave the folder to whoever looks for stale ones next."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def stale() -> Iterator[Scratch]:
    """Yield the folders of processes that are gone."""
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        held = _hold(path)
        if held is not None:
            yield Scratch(path, held)


def _hold(path: Path) -> int | None:
    """Lock a folder of this user; None if another process has it, or it is gone."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(held).st_uid == os.getuid() and path.exists():
            return held
    except OSError:
        pass
    os.close(held)
    return None
