"""Files that appear at their name whole or not at all, and locks that a kill releases."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO

from vecmigrate.errors import TargetExistsError, VecmigrateError, WriteError

PARTIAL = ".partial"
"""What the name of a file that is being written ends with; it begins with a dot."""


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield the name to write to; the file gets the name ``path`` when all went well.

    Raises
    ------
    WriteError
        If the disk refuses; nothing is left behind.
    """
    remedy = "Check the folder and its free space."
    with _replacing(path, path.with_name(f".{path.name}{PARTIAL}"), remedy) as partial:
        yield partial


@contextmanager
def _replacing(path: Path, partial: Path, remedy: str) -> Iterator[Path]:
    """Yield ``partial``, which gets the name ``path`` when all went well, and goes otherwise."""
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise unwritable(path, error, remedy) from error
    finally:
        partial.unlink(missing_ok=True)


def made_folder(path: Path, *, parents: bool = True) -> Path:
    """Return a folder, made if it is not there.

    Raises
    ------
    WriteError
    """
    try:
        path.mkdir(parents=parents, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path} cannot be made: {error.strerror or error}",
            remedy="Check the folder of --out, or name another.",
        ) from error
    return path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder, made if it is not there; after an error it goes again if it is new and empty.

    Raises
    ------
    WriteError
    """
    was_there = path.exists()
    try:
        yield made_folder(path)
    except BaseException:
        if not was_there:
            with suppress(OSError):
                path.rmdir()
        raise


def require_absent(path: Path) -> None:
    """Raise :class:`TargetExistsError` if there is something at a path."""
    if path.exists():
        raise TargetExistsError(f"{path} exists", remedy="Name another file, or remove it.")


def sync_path(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, in the place of one that is there; outlives a power cut."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    sync_path(new)
    new.replace(path)
    sync_path(path.parent)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A file as it is to be without some of its points.

    Attributes
    ----------
    removed
        The ids of these points.
    write
        Writes the file that is to take the old one's place to the path given.
    """

    removed: frozenset[int | str]
    write: Callable[[Path], object]

    def carry_out(self, path: Path, before: Callable[[Path], object] = lambda new: None) -> None:
        """Replace ``path`` in one step, the new file on the disk; links are followed.

        Parameters
        ----------
        before
            Called with the new file right before it takes the old one's place.

        Raises
        ------
        WriteError
        """
        path = path.resolve()
        with published(path) as new:
            self.write(new)
            shutil.copymode(path, new)
            sync_path(new)
            before(new)
        sync_path(path.parent)


def take_lock(path: Path, taken: VecmigrateError) -> FileIO:
    """Lock a file, made if it is not there, until it is closed; the process's end closes it.

    Raises
    ------
    VecmigrateError
        ``taken``, if another process, or another lock of this one, has it.
    OSError
    """
    with ExitStack() as closing:
        # Unbuffered, so that closing it has nothing left to write.
        lock = closing.enter_context(path.open("ab", buffering=0))
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Without a name it is one that its holder removed at the end, and guards nothing.
            if os.fstat(lock.fileno()).st_nlink:
                closing.pop_all()
                return lock
    raise taken


_PARTS_REMEDY = "Free disk space, or name another folder with --parts; the same command continues."

TEMPORARY = ".writing-"
"""What the name of an unfinished file begins with; the process that writes it comes next."""


def unwritable(path: Path, error: OSError, remedy: str = _PARTS_REMEDY) -> WriteError:
    """Return what to raise for a file that cannot be written; default: one of the parts."""
    return WriteError(f"{path} cannot be written: {error.strerror or error}", remedy=remedy)


@contextmanager
def part_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file under another name; once it is on the disk it gets its own.

    Raises
    ------
    WriteError
        If the disk refuses; nothing is left behind.
    """
    unfinished = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with _replacing(path, unfinished, _PARTS_REMEDY), unfinished.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
