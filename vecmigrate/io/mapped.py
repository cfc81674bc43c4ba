"""Reads parts of a mapped file by system calls, which a file that shrinks cannot kill.

Some programs write a file over an old one in place, as ``faiss.write_index`` does. Memory that is
mapped to what was cut off ends the process that looks there, with SIGBUS.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vecmigrate.errors import InputError

_MAPS = Path("/proc/self/maps")


class MappedFile:
    """A file, and where in memory it is mapped, if the system tells that.

    Parameters
    ----------
    path
        The file; open as long as this is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._as_opened = self._sign()
        self._maps = _maps_of(path)

    def copied(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return an array that lies in the mapped file as a copy; any other one as it is.

        Raises
        ------
        InputError
            If the file was written over since it was opened.
        """
        address, size = part.ctypes.data, part.nbytes
        for start, end, offset in self._maps:
            if start <= address and address + size <= end and size and part.flags.c_contiguous:
                made = np.empty(part.shape, part.dtype)
                self._fill(made.reshape(-1).view(np.uint8).data, offset + address - start)
                self.check()
                return made
        return part

    def reader(self) -> BinaryIO:
        """Return a reader of the file from its beginning, whatever has its name by now."""
        reader = os.fdopen(os.dup(self._file), "rb")
        reader.seek(0)
        return reader

    def check(self) -> None:
        """Raise :class:`InputError` if the file was written over since it was opened."""
        if self._sign() != self._as_opened:
            raise self._rewritten()

    def _fill(self, buffer: memoryview, offset: int) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._file, [buffer[done:]], offset + done)
            if not count:
                raise self._rewritten()
            done += count

    def _sign(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def _rewritten(self) -> InputError:
        return InputError(
            f"{self._path} was written over while it was read",
            remedy="Write a file under another name and rename it, or keep the file still; then "
            "start over with --restart.",
        )


def _maps_of(path: Path) -> list[tuple[int, int, int]]:
    """Return where a file is mapped: first and last address, and the place in the file."""
    if not _MAPS.exists() or not hasattr(os, "preadv"):
        return []
    name, found = str(path.resolve()), []
    for line in _MAPS.read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name:
            start, end = (int(bound, 16) for bound in fields[0].split("-"))
            found.append((start, end, int(fields[2], 16)))
    return found
