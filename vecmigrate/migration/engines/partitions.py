"""What a worker does: it translates a partition, into a part file or right into the target."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from vecmigrate.anchors.keeper import AnchorKeeper
from vecmigrate.connector import arrow
from vecmigrate.connector.registry import open_source, resume_sink
from vecmigrate.connector.source import PartitionedSource, Source
from vecmigrate.errors import InputError, UsageError
from vecmigrate.io.atomic import part_file
from vecmigrate.migration.dead_letters import DeadLetters, OnBadPoint, PointWriter
from vecmigrate.migration.engines.permit import Permit, WithdrawnError
from vecmigrate.migration.translate import (
    Converter,
    Spent,
    StopAskedError,
    WorkerConverter,
    convert,
)
from vecmigrate.migration.write import Writing, Written
from vecmigrate.points.batch import IdArray, Payload, PointId, VectorBatch, id_array
from vecmigrate.points.canonical import payload_json
from vecmigrate.points.checksums import IdFingerprint
from vecmigrate.points.collection import TargetSpec
from vecmigrate.points.screening import Absent, OnBadVector, Skipped, screen
from vecmigrate.runtime.waiting import Patience, adopt
from vecmigrate.state.ledger import MovedPoints


class Receipt(BaseModel):
    """A partition that is in the target.

    Attributes
    ----------
    read
        Points with usable vectors.
    written, id_total
        The fingerprint of their ids.
    cursor
        The last batch's; None if there was none.
    skipped_ids
        Points left out for a bad vector, or without a text.
    part, texts, tokens, refused
        What was bought for them, see :class:`Spent`.
    """

    read: int
    written: int
    id_total: int
    kept_anchors: int
    cursor: str | None
    skipped_ids: list[PointId]
    part: str = ""
    texts: int = 0
    tokens: int = 0
    refused: tuple[PointId, ...] = ()


def write_receipt(path: Path, receipt: Receipt, moved: Iterable[MovedPoints]) -> None:
    """Write a receipt with what a ledger is to know of its points.

    Raises
    ------
    WriteError
        If the disk refuses.
    """
    schema = _MOVED.with_metadata({_RECEIPT: receipt.model_dump_json()})
    with part_file(path) as file, pa.ipc.new_file(file, schema) as writer:
        for points in moved:
            columns = [
                *_id_columns(points.ids), _hash_column(points.hashes),
                pa.array(points.origins), pa.array(points.sketches),
            ]  # fmt: skip
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def read_receipt(path: Path) -> Iterator[tuple[Receipt, MovedPoints | None]]:
    """Yield the receipt, and what a ledger is to know; None if none is kept."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        receipt = Receipt.model_validate_json(reader.schema.metadata[_RECEIPT])
        table = reader.read_all()
    if not len(table):
        yield receipt, None
        return
    [rows] = table.combine_chunks().to_batches()
    origins, drawn = (rows.column(name).to_numpy() for name in ("origin", "sketch"))
    yield receipt, MovedPoints(_ids(rows), _hashes(rows), origins, drawn)


_RECEIPT = b"receipt"
_HASHES = pa.list_(pa.int64(), 2)
_MOVED = pa.schema(
    [
        ("number", pa.int64()),
        ("name", pa.string()),
        ("hashes", _HASHES),
        ("origin", pa.int8()),
        ("sketch", pa.int64()),
    ]
)

_CURSOR, _SKIPPED, _COUNTED, _SPENT = b"cursor", b"skipped", b"counted", b"spent"


_NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class PartBatch:
    """A batch of a part, the points that were left out before it, and what was bought for them."""

    batch: VectorBatch
    skipped: list[PointId]
    spent: Spent = _NOTHING


def write_part(
    path: Path,
    batches: Iterable[VectorBatch],
    dimension: int,
    skipped: Skipped,
    spent: Callable[[], Spent] = Spent,
) -> None:
    """Write a part under another name and, once it is on the disk, give it its own.

    Parameters
    ----------
    dimension
        Of the vectors.
    skipped
        Gathers the ids left out while ``batches`` are read.
    spent
        Tells what was bought meanwhile.

    Raises
    ------
    WriteError
        If the disk refuses.
    MismatchError
        If a payload is not JSON.
    """
    told = 0
    with part_file(path) as file, pa.ipc.new_file(file, _schema(dimension)) as writer:
        for batch in batches:
            metadata = _metadata(batch.cursor, skipped.ids[told:], counted=batch.counts is not None)
            writer.write_batch(_rows(batch), metadata)
            told = len(skipped.ids)
        bought = spent()
        if told < len(skipped.ids) or bought.texts or bought.refused:
            none = pa.RecordBatch.from_pylist([], schema=_schema(dimension))
            writer.write_batch(none, _metadata(None, skipped.ids[told:], bought))


def read_part(path: Path) -> Iterator[PartBatch]:
    """Yield a part's batches; vectors are views of the mapped file.

    The first tells what was bought for all of them: a run that stops at the last one's cursor does
    not read this part again.
    """
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        count = reader.num_record_batches
        spent = _NOTHING
        if count:
            _, last = reader.get_batch_with_custom_metadata(count - 1)
            part, texts, tokens, refused = json.loads(last[_SPENT])
            spent = Spent(part, texts, tokens, tuple(refused))
        for number in range(count):
            rows, metadata = reader.get_batch_with_custom_metadata(number)
            skipped = json.loads(metadata[_SKIPPED])
            yield PartBatch(_batch(rows, metadata), skipped, _NOTHING if number else spent)


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            ("number", pa.int64()),
            ("name", pa.string()),
            ("vectors", pa.list_(pa.list_(pa.float32(), dimension))),
            ("payload", pa.string()),
            ("extra", pa.string()),
            ("hashes", _HASHES),
            ("native", pa.bool_()),
        ]
    )


def _metadata(
    cursor: str | None, skipped: list[PointId], spent: Spent = _NOTHING, *, counted: bool = False
) -> dict[bytes, str]:
    return {
        _SPENT: json.dumps([spent.part, spent.texts, spent.tokens, spent.refused]),
        _CURSOR: json.dumps(cursor),
        _SKIPPED: json.dumps(skipped),
        _COUNTED: json.dumps(counted),
    }


def _rows(batch: VectorBatch) -> pa.RecordBatch:
    count, dimension = len(batch), batch.vectors.shape[1]
    counts = np.ones(count, np.int32) if batch.counts is None else batch.counts
    vectors = pa.ListArray.from_arrays(
        pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32)),
        arrow.vector_column(batch.vectors),
    )
    payloads, extras = (_texts(batch, parts) for parts in (batch.payloads, batch.extras))
    hashes = batch.read_hashes
    return pa.RecordBatch.from_arrays(
        [
            *_id_columns(batch.ids), vectors, payloads, extras,
            pa.nulls(count, _HASHES) if hashes is None else _hash_column(hashes),
            pa.nulls(count, pa.bool_()) if batch.native is None else pa.array(batch.native),
        ],
        schema=_schema(dimension),
    )  # fmt: skip


def _id_columns(ids: IdArray) -> tuple[pa.Array, pa.Array]:
    """Return ids as numbers and as names, of which one column is null."""
    if ids.dtype == np.int64:
        return pa.array(ids), pa.nulls(len(ids), pa.string())
    return pa.nulls(len(ids), pa.int64()), pa.array(map(json.dumps, ids.tolist()), pa.string())


def _hash_column(hashes: NDArray[np.int64]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(hashes.reshape(-1)), 2)


def _hashes(rows: pa.RecordBatch) -> NDArray[np.int64]:
    hashes: NDArray[np.int64] = rows.column("hashes").flatten().to_numpy()
    return hashes.reshape(-1, 2)


def _texts(batch: VectorBatch, parts: Sequence[Payload] | None) -> pa.Array:
    if parts is None:
        return pa.nulls(len(batch), pa.string())
    each = zip(batch.ids, parts, strict=True)
    return pa.array([payload_json(part, point_id) for point_id, part in each], pa.string())


def _batch(rows: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> VectorBatch:
    vectors = rows.column("vectors")
    dimension = vectors.type.value_type.list_size
    counts = np.diff(vectors.offsets.to_numpy()).astype(np.intp)
    native = rows.column("native")
    return VectorBatch(
        _ids(rows),
        vectors.flatten().flatten().to_numpy().reshape(-1, dimension),
        _parts(rows.column("payload")),
        json.loads(metadata[_CURSOR]),
        _parts(rows.column("extra")),
        counts if json.loads(metadata[_COUNTED]) else None,
        None if rows.column("hashes").null_count else _hashes(rows),
        None if native.null_count else native.to_numpy(zero_copy_only=False),
    )


def _parts(texts: pa.Array) -> list[Payload] | None:
    return None if texts.null_count else [json.loads(text) for text in texts.to_pylist()]


def _ids(rows: pa.RecordBatch) -> IdArray:
    if rows.column("name").null_count:
        numbers: IdArray = rows.column("number").to_numpy()
        return numbers
    return id_array([json.loads(name) for name in rows.column("name").to_pylist()])


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
    work: PartitionWork, worker: WorkerConverter, token: str, path: Path, permit: Permit
) -> bool:
    """Translate one partition into the part file ``path``; nothing if that is there already.

    Returns False, and leaves no file, if the permit is taken back meanwhile.

    Raises
    ------
    InputError
        If the source cannot be read, or is not what the driver has open.
    BadVectorError, UnreachableError, WriteError
    """
    if path.exists():
        return True
    skipped = Skipped()
    try:
        with permit.at_work(), _opened_worker(work, worker, path, skipped, permit) as own:
            converter, spent = own
            done = _converted(work, converter, token, skipped)
            write_part(path, permit.each(done), converter.dimension, skipped, spent)
    except (WithdrawnError, StopAskedError):
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
    worker: WorkerConverter,
    target: JointTarget,
    token: str,
    path: Path,
    permit: Permit,
) -> bool:
    """Write one partition to the target, then its receipt; nothing if that is there already.

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
        with permit.at_work(), _opened_worker(work, worker, path, skipped, permit) as own:
            converter, spent = own
            done = _converted(work, converter, token, skipped)
            parts = _written(target, done, path, permit)
            receipt = _receipt(parts, skipped, spent())
            write_receipt(path, receipt, (part.moved for part in parts if part.moved is not None))
    except (WithdrawnError, StopAskedError):
        return False
    return True


def _receipt(parts: list[Written], skipped: Skipped, spent: Spent) -> Receipt:
    ids = IdFingerprint()
    for part in parts:
        ids.join(part.ids)
    return Receipt(
        read=sum(part.read for part in parts),
        written=ids.count,
        id_total=ids.total,
        kept_anchors=sum(part.kept_anchors for part in parts),
        cursor=parts[-1].cursor if parts else None,
        skipped_ids=skipped.ids,
        part=spent.part,
        texts=spent.texts,
        tokens=spent.tokens,
        refused=spent.refused,
    )


@contextmanager
def _opened_worker(
    work: PartitionWork, worker: WorkerConverter, path: Path, skipped: Skipped, permit: Permit
) -> Iterator[tuple[Converter, Callable[[], Spent]]]:
    _seen_from(work)
    with worker.opened(path, skipped, permit.is_withdrawn) as own:
        yield own


def _seen_from(work: PartitionWork) -> None:
    """Name places as the driver does."""
    # Where the driver's folder is not on this machine, its relative paths would mean nothing.
    with suppress(FileNotFoundError):
        os.chdir(work.directory)


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


def _converted(
    work: PartitionWork, converter: Converter, token: str, skipped: Skipped
) -> Iterator[VectorBatch]:
    adopt(work.patience)
    source = _opened(work.source, work.fingerprint)
    batches = source.partition_batches(token, work.batch_size)
    usable = screen(batches, work.source, work.on_bad_vector, skipped, absent=work.absent)
    return convert(usable, converter)


@lru_cache(maxsize=1)
def _opened(uri: str, fingerprint: str) -> PartitionedSource:
    """Open a source once in a worker's life: a sidecar takes a while."""
    source = partitioned(open_source(uri))
    if not source.live and source.fingerprint() != fingerprint:
        source.close()
        raise InputError(
            f"{uri} is not the same to a worker as to the driver",
            remedy="Keep it still, and see that all machines have the same file or server.",
        )
    return source
