"""Where files are on the disk, and what a URI says of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from vecmigrate.connector import InputError, told_as
from vecmigrate.connector import writing as writing_to


def fingerprint_of(paths: Iterable[Path]) -> str:
    """Hash the names, sizes and times of files, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with reading(path):
            found = path.stat()
        digest.update(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


SUFFIXES = (".parquet", ".pq")
"""Names of Parquet files end so."""

Partition = dict[str, int | str]
"""Fields by ``name=value`` folders; one without a value is not there."""

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def parquet_paths(what: object, path: Path) -> list[Path]:
    """Return a file alone, or a folder's Parquet files at any depth, sorted by path.

    Files and folders whose names begin with a dot or an underscore are passed over, as by others.

    Raises
    ------
    InputError
        If there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            f"{what} is not there", remedy="Name a Parquet file or a folder of Parquet files."
        )
    found: list[Path] = []
    with reading(path):
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            found.extend(
                Path(folder, name)
                for name in names
                if name.endswith(SUFFIXES) and not name.startswith((".", "_"))
            )
    if not found:
        raise InputError(
            f"{what} is a folder without Parquet files",
            remedy=f"Their names must end in {' or '.join(SUFFIXES)}.",
        )
    return sorted(found)


def partitions_of(root: Path, paths: Sequence[Path]) -> list[Partition]:
    """Return what the ``name=value`` folders below ``root`` say of each file.

    A field is an integer if its values are integers in all files, else text.
    """
    texts: list[dict[str, str]] = []
    for path in paths:
        folders = path.parent.relative_to(root).parts if path != root else ()
        pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
        texts.append({name: unquote(v) for name, v in pairs if v != _NO_VALUE})
    worded = {name for text in texts for name, value in text.items() if not _is_integer(value)}
    return [
        {name: value if name in worded else int(value) for name, value in text.items()}
        for text in texts
    ]


def _is_integer(text: str) -> bool:
    """True if nothing is lost; ``007`` is a text, and so is what int64 cannot hold."""
    return len(text) < 19 and text.lstrip("-").isdecimal() and str(int(text)) == text


def reading(what: object) -> AbstractContextManager[None]:
    """Raise what cannot be read as :class:`InputError`, naming ``what``, a file."""
    return told_as(
        InputError,
        f"{what} cannot be read",
        "Check that the file is whole, of the format that the URI says, and readable.",
        (pa.ArrowException, OSError, ValueError),
    )


def writing(what: object) -> AbstractContextManager[None]:
    """Raise what the disk refuses as :class:`WriteError`, naming ``what``, the target."""
    return writing_to(what, (pa.ArrowException,))
