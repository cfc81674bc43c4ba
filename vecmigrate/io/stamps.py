"""What tells without reading that files are as they were."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK, _WHOLE_SECONDS = 0.05, 2.0


def files_stamp(paths: Iterable[Path]) -> str | None:
    """Return a text that is another one once a file was written or replaced.

    None if a file is not there, or was written so lately that its time may stay the same if it is
    written again: file systems count time in steps.
    """
    parts = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            return None
        if _may_stay(found):
            return None
        parts.append(f"{path.resolve()}:{found.st_ino}.{found.st_size}.{found.st_mtime_ns}")
    return " ".join(parts)


def _may_stay(found: os.stat_result) -> bool:
    step = _WHOLE_SECONDS if found.st_mtime_ns % 1_000_000_000 == 0 else _TICK
    return time.time() - found.st_mtime_ns / 1e9 < step
