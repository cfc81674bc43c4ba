"""What a worker does: it translates a partition, into a part file or right into the target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector.registry import open_source, resume_sink
from vecmigrate.connector.source import PartitionedSource, Source
from vecmigrate.engines.parts import write_part
from vecmigrate.engines.permit import Permit, WithdrawnError
from vecmigrate.engines.receipts import Receipt, write_receipt
from vecmigrate.errors import InputError, UsageError
from vecmigrate.points.batch import VectorBatch
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import TargetSpec
from vecmigrate.points.screening import Absent, OnBadVector, Skipped, screen
from vecmigrate.quarantine import DeadLetters, OnBadPoint, PointWriter
from vecmigrate.runtime.waiting import Patience, adopt
from vecmigrate.translating import translated
from vecmigrate.translators import Translator
from vecmigrate.writing import Writing, Written


@dataclass(frozen=True)
class PartitionWork:
    """What all partitions of a source have in common.

    Attributes
    ----------
    directory
        What relative paths are seen from.
    patience
        How the driver waits for servers.
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
    patience: Patience = field(default_factory=Patience)


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
    work: PartitionWork, translator: Translator, token: str, path: Path, permit: Permit
) -> bool:
    """Translate one partition into the part file ``path``; nothing where that is there already.

    Returns False, and leaves no file, if the permit is taken back meanwhile.

    Raises
    ------
    InputError
        Where the source cannot be read, or is not what the driver has open.
    BadVectorError, UnreachableError, WriteError
    """
    if path.exists():
        return True
    skipped = Skipped()
    try:
        with permit.at_work():
            done = _translated(work, translator, token, skipped)
            write_part(path, permit.each(done), translator.target_dim_, skipped)
    except WithdrawnError:
        return False
    return True


@dataclass(frozen=True)
class JointTarget:
    """A target that all workers write to.

    Attributes
    ----------
    token
        Of the driver's sink, see :meth:`Sink.share`.
    """

    uri: str
    spec: TargetSpec
    token: str
    keeper: AnchorKeeper | None


def move_partition(
    work: PartitionWork,
    translator: Translator,
    target: JointTarget,
    token: str,
    path: Path,
    permit: Permit,
) -> bool:
    """Write one partition to the target, then its receipt; nothing where that is there already.

    Returns False, and leaves no receipt, if the permit is taken back meanwhile; the batch that is
    being written then is the last.

    Raises
    ------
    RefusedError, MismatchError
        From the target, beside what :func:`translate_partition` raises.
    """
    if path.exists():
        return True
    skipped = Skipped()
    try:
        with permit.at_work():
            done = _translated(work, translator, token, skipped)
            parts = _written(target, done, path, permit)
    except WithdrawnError:
        return False
    ids = IdFingerprint()
    for part in parts:
        ids.join(part.ids)
    receipt = Receipt(
        read=sum(part.read for part in parts),
        written=ids.count,
        id_total=ids.total,
        kept_anchors=sum(part.kept_anchors for part in parts),
        cursor=parts[-1].cursor if parts else None,
        skipped_ids=skipped.ids,
    )
    write_receipt(path, receipt)
    return True


def _written(
    target: JointTarget, batches: Iterator[VectorBatch], path: Path, permit: Permit
) -> list[Written]:
    """Write batches to the target and make them durable; return what was written."""
    sink = resume_sink(target.uri, target.spec, target.token)
    try:
        # Under this policy a refused point is an error, and no letter is written.
        letters = DeadLetters(path.with_suffix(".letters"), "")
        writer = PointWriter(sink, letters, OnBadPoint.FAIL)
        writing = Writing(sink, target.uri, target.spec, writer, target.keeper)
        parts = list(permit.each(writing.write(batches)))
        sink.checkpoint()
    finally:
        sink.suspend()
    return parts


def _translated(
    work: PartitionWork, translator: Translator, token: str, skipped: Skipped
) -> Iterator[VectorBatch]:
    adopt(work.patience)
    # Where the driver's folder is not on this machine, its relative paths would mean nothing.
    with suppress(FileNotFoundError):
        os.chdir(work.directory)
    source = _opened(work.source, work.fingerprint)
    batches = source.partition_batches(token, work.batch_size)
    usable = screen(batches, work.source, work.on_bad_vector, skipped, absent=work.absent)
    return translated(usable, translator, work.text_field)


@lru_cache(maxsize=1)
def _opened(uri: str, fingerprint: str) -> PartitionedSource:
    """Open a source once in a worker's life: a sidecar takes a while."""
    source = partitioned(open_source(uri))
    if source.fingerprint() != fingerprint:
        source.close()
        raise InputError(
            f"{uri} is not the same to a worker as to the driver",
            remedy="Keep it still, and see that all machines have the same file or server.",
        )
    return source
