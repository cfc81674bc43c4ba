"""Translates plain ``.npy`` files of any size through memory maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vecmigrate.errors import InputError
from vecmigrate.io.atomic import published, require_absent
from vecmigrate.io.vector_files import open_vectors
from vecmigrate.points.batch import row_norms
from vecmigrate.translators import Translator

BATCH_SIZE = 8192


def translate_file(
    translator: Translator,
    source: str | Path,
    target: str | Path,
    *,
    variance: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Write ``source``'s vectors, translated, to the float32 ``.npy`` file ``target``.

    Parameters
    ----------
    variance
        Where to write the ``(n,)`` float32 predictive variances, if anywhere.

    Returns
    -------
    tuple
        The shape written.

    Raises
    ------
    InputError
        If a row is not finite; nothing is left at ``target`` or ``variance``.
    TargetExistsError, MismatchError, WriteError
    """
    vectors = open_vectors(source)
    shape = (len(vectors), translator.target_dim_)
    with ExitStack() as stack:
        # The vectors' file is published last, so that where it is, the variances are too.
        out = stack.enter_context(_new_array(Path(target), shape))
        spread = variance and stack.enter_context(_new_array(Path(variance), shape[:1]))
        for start in range(0, len(vectors), batch_size):
            batch = np.ascontiguousarray(vectors[start : start + batch_size], dtype=np.float32)
            batch = translator.inputs(batch, None)
            if spread:
                translated, variances = translator.transform_with_variance(batch)
                spread.write(variances.data)
            else:
                translated = translator.transform(batch)
            finite = np.isfinite(row_norms(translated))
            if not finite.all():
                raise InputError(
                    f"{source}: row {start + int(np.argmin(finite))} is not finite",
                    remedy="Mend or remove that row.",
                )
            out.write(translated.data)
            if progress is not None:
                progress(len(batch))
    return shape


@contextmanager
def _new_array(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """Open a float32 ``.npy`` file for its rows; it appears at ``path`` when all went well.

    Plain writes, since a full disk under a writable memory map kills the process.
    """
    require_absent(path)
    with published(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        yield file
        file.flush()
        os.fsync(file.fileno())
