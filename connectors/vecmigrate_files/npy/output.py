"""An array file that grows by rows."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecmigrate.connector import MismatchError, Vectors, sync_path

_BUFFER = 1 << 20
_ROWS_A_STEP = 1 << 14


class VectorFile:
    """Float32 rows behind a header that tells of none until :meth:`complete`.

    NumPy leaves room in a header for any number of rows.

    Parameters
    ----------
    rows
        Kept of what is there already; None begins a new file.

    Raises
    ------
    MismatchError
        If there are not as many rows.
    """

    def __init__(self, path: Path, dimension: int, rows: int | None) -> None:
        self.path = path
        self._dimension = dimension
        start = len(self._header(0))
        if rows is None:
            path.write_bytes(self._header(0))
        else:
            size = start + rows * dimension * 4
            if not path.exists() or path.stat().st_size < size:
                raise MismatchError(
                    f"{path} has lost what was written before the checkpoint",
                    remedy="Start over with --restart.",
                )
            os.truncate(path, size)
        self.rows = rows or 0
        self._file = path.open("ab", _BUFFER)

    def append(self, vectors: Vectors) -> None:
        """Add ``(n, dimension)`` rows."""
        self._file.write(vectors.data)
        self.rows += len(vectors)

    def sync(self) -> None:
        """Bring all rows to the disk."""
        self._file.flush()
        sync_path(self.path)

    def complete(self, mask: NDArray[np.bool_] | None) -> Path:
        """Return a whole file, durable: this one, or one with the rows of ``mask`` only."""
        self._file.flush()
        with self.path.open("r+b") as file:
            file.write(self._header(self.rows))
        if mask is None:
            sync_path(self.path)
            return self.path
        path = self.path.with_name(f"kept-{self.path.name}")
        rows = np.load(self.path, mmap_mode="r")
        with path.open("wb", _BUFFER) as file:
            file.write(self._header(int(mask.sum())))
            for start in range(0, len(rows), _ROWS_A_STEP):
                end = start + _ROWS_A_STEP
                file.write(np.ascontiguousarray(rows[start:end][mask[start:end]]).data)
        sync_path(path)
        return path

    def close(self) -> None:
        """Let go; may be called again."""
        with suppress(OSError):  # what a full disk did not take is not needed any more
            self._file.close()

    def _header(self, rows: int) -> bytes:
        text = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, self._dimension)}
        np.lib.format.write_array_header_1_0(text, described)
        return text.getvalue()
