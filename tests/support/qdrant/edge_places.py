"""A collection of another store, copied to a directory of Qdrant's engine or a snapshot of one."""

from __future__ import annotations

import tarfile
from pathlib import Path

from vecmigrate import open_sink, open_source
from vecmigrate.connector import TargetSpec

STORES = ["faiss", "qdrant-edge", "qdrant-snapshot"]
"""What :func:`copied` can make of a FAISS index; the first is that index."""


def copied(uri: str, store: str, folder: Path) -> str:
    """Copy a collection to ``store``, and return the copy's URI."""
    if uri.startswith(f"{store}:"):
        return uri
    directory = folder / "copied-edge"
    with open_source(uri) as source:
        described = source.describe()
        spec = TargetSpec(
            dimension=described.dimension,
            metric=described.metric,
            text_field=described.text_field,
        )
        with open_sink(f"qdrant-edge:{directory}", spec) as sink:
            for batch in source.batches(1000):
                sink.write(batch)
            sink.finish()
    return f"qdrant-edge:{directory}" if store == "qdrant-edge" else snapshot(directory)


def snapshot(directory: Path) -> str:
    """Pack a directory as a server packs a shard, and return the snapshot's URI."""
    file = directory.with_suffix(".snapshot")
    with tarfile.open(file, "w") as archive:
        for path in sorted((directory / "segments").rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(directory))
    return f"qdrant-snapshot:{file}"
