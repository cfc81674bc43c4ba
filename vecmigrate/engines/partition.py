"""What a worker does: a partition of the source, translated, in a part file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vecmigrate.engines.parts import write_part
from vecmigrate.errors import UsageError, VerificationError
from vecmigrate.partitioned_source import PartitionedSource
from vecmigrate.registry import open_source
from vecmigrate.screening import OnBadVector, Skipped, screen
from vecmigrate.sink import Absent
from vecmigrate.source import Source
from vecmigrate.translating import translated
from vecmigrate.translators import Translator


@dataclass(frozen=True)
class PartitionWork:
    """What all partitions of a source have in common.

    Attributes
    ----------
    directory
        What relative paths are seen from.
    fingerprint
        The source's, as the driver found it.
    """

    source: str
    directory: str
    fingerprint: str
    text_field: str | None
    on_bad_vector: OnBadVector
    absent: Absent
    batch_size: int


def partitioned(source: Source) -> PartitionedSource:
    """Return the source, if it has partitions.

    Raises
    ------
    UsageError
    """
    if isinstance(source, PartitionedSource):
        return source
    described = source.describe()
    raise UsageError(
        f"{described.uri}: the connector {described.store} cannot be read by several workers",
        remedy="Use --engine local.",
    )


def translate_partition(
    work: PartitionWork, translator: Translator, token: str, path: Path
) -> None:
    """Translate one partition into the part file ``path``; nothing where that is there already.

    Raises
    ------
    VerificationError
        Where the source is not what the driver has open.
    BadVectorError, InputError, UnreachableError, WriteError
    """
    # Where the driver's folder is not on this machine, its relative paths would mean nothing.
    with suppress(FileNotFoundError):
        os.chdir(work.directory)
    if path.exists():
        return
    source = _opened(work.source, work.fingerprint)
    skipped = Skipped()
    batches = source.partition_batches(token, work.batch_size)
    usable = screen(batches, work.source, work.on_bad_vector, skipped, absent=work.absent)
    done = translated(usable, translator, work.text_field)
    write_part(path, done, translator.target_dim_, skipped)


@lru_cache(maxsize=1)
def _opened(uri: str, fingerprint: str) -> PartitionedSource:
    """Open a source once in a worker's life: a sidecar takes a while."""
    source = partitioned(open_source(uri))
    if source.fingerprint() != fingerprint:
        source.close()
        raise VerificationError(
            f"{uri} is not the same to a worker as to the driver",
            remedy="Keep it still, and see that all machines have the same file or server.",
        )
    return source
