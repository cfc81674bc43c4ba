"""Files that appear at their name whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecmigrate.errors import WriteError


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield the name to write to; the file gets the name ``path`` when all went well.

    Raises
    ------
    WriteError
        Where the disk refuses; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}",
            remedy="Check the folder and its free space.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
