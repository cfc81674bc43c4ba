"""Puts new files in the place of a collection's old ones, by the one renaming of its index.

The new files lie ready in the update directory. ``exchange`` there holds the new index's inode:
while the index at the collection's name has that inode, the sidecar and companion that belong to it
are those in the update directory, or, once moved, those at their names. So a reader, and who
completes an exchange that was killed, can tell at every instant which files belong together.
"""

from __future__ import annotations

from pathlib import Path

from vecmigrate.connector import replace_text, sync_path
from vecmigrate_faiss.location import Location
from vecmigrate_faiss.spool import Spool

_NEW = "new"
_NOTE = "exchange"


def new_files(location: Location) -> Path:
    """Where the new files are made ready."""
    return location.update / _NEW


def exchange(location: Location, made: Spool) -> None:
    """Give the new files their names; the index's renaming is what counts."""
    note = location.update / _NOTE
    replace_text(note, str(made.index.stat().st_ino))
    made.index.replace(location.index)
    sync_path(location.index.parent)
    complete(location)


def complete(location: Location) -> None:
    """Move what belongs to the index now; nothing to do if no exchange was begun."""
    if not is_exchanged(location):
        return
    for part, name in _staged(location):
        if part.exists():
            part.replace(name)
    sync_path(location.index.parent)
    (location.update / _NOTE).unlink()
    sync_path(location.update)


def belonging(location: Location) -> tuple[Path, Path]:
    """Return the sidecar and the companion that belong to the index at the name now."""
    pairs = _staged(location)
    if is_exchanged(location):
        pairs = [(part, part if part.exists() else name) for part, name in pairs]
    (_, sidecar), (_, companion) = pairs
    return sidecar, companion


def _staged(location: Location) -> list[tuple[Path, Path]]:
    """Return where a new sidecar and a new companion are made ready, each with its name."""
    made = Spool(new_files(location), 0)
    return [(made.sidecar, location.sidecar), (made.companion, location.companion)]


def edition(location: Location) -> tuple[int, int, Path, Path] | None:
    """Return what changes when another index gets the name, or its files get theirs.

    None if there is no index.
    """
    try:
        stat = location.index.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, *belonging(location)


def is_exchanged(location: Location) -> bool:
    """True while an exchange has its index at the name, and not yet all that belongs to it."""
    try:
        inode = int((location.update / _NOTE).read_text(encoding="ascii"))
        return location.index.stat().st_ino == inode
    except (OSError, ValueError):
        return False
