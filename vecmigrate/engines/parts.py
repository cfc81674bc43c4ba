"""Part files: a partition's translated points, as an Arrow file that is there whole or not at all.

A point is a row: its id (``number``, or ``name`` as JSON where the batch's are no int64), its
``vectors``, one or as many as it has, its ``payload`` and its ``extra`` as JSON. A record batch is
a batch; its metadata hold the cursor, the ids left out since the one before, and whether the points
have a count of vectors each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vecmigrate.errors import MismatchError
from vecmigrate.io.atomic import part_file
from vecmigrate.points.batch import IdArray, Payload, PointId, VectorBatch, id_array
from vecmigrate.points.screening import Skipped

_CURSOR, _SKIPPED, _COUNTED = b"cursor", b"skipped", b"counted"


@dataclass(frozen=True, slots=True)
class PartBatch:
    """A batch of a part, and the bad vectors that were left out before it."""

    batch: VectorBatch
    skipped: list[PointId]


def write_part(
    path: Path, batches: Iterable[VectorBatch], dimension: int, skipped: Skipped
) -> None:
    """Write a part under another name and, once it is on the disk, give it its own.

    Parameters
    ----------
    dimension
        Of the vectors.
    skipped
        Gathers the ids left out while ``batches`` are read.

    Raises
    ------
    WriteError
        Where the disk refuses.
    MismatchError
        Where a payload is not JSON.
    """
    told = 0
    with part_file(path) as file, pa.ipc.new_file(file, _schema(dimension)) as writer:
        for batch in batches:
            metadata = _metadata(batch.cursor, skipped.ids[told:], counted=batch.counts is not None)
            writer.write_batch(_rows(batch), metadata)
            told = len(skipped.ids)
        if told < len(skipped.ids):
            none = pa.RecordBatch.from_pylist([], schema=_schema(dimension))
            writer.write_batch(none, _metadata(None, skipped.ids[told:]))


def read_part(path: Path) -> Iterator[PartBatch]:
    """Yield a part's batches; vectors are views of the mapped file."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            rows, metadata = reader.get_batch_with_custom_metadata(number)
            yield PartBatch(_batch(rows, metadata), json.loads(metadata[_SKIPPED]))


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            ("number", pa.int64()),
            ("name", pa.string()),
            ("vectors", pa.list_(pa.list_(pa.float32(), dimension))),
            ("payload", pa.string()),
            ("extra", pa.string()),
        ]
    )


def _metadata(
    cursor: str | None, skipped: list[PointId], *, counted: bool = False
) -> dict[bytes, str]:
    return {
        _CURSOR: json.dumps(cursor),
        _SKIPPED: json.dumps(skipped),
        _COUNTED: json.dumps(counted),
    }


def _rows(batch: VectorBatch) -> pa.RecordBatch:
    count, dimension = len(batch), batch.vectors.shape[1]
    numbers, names = pa.nulls(count, pa.int64()), pa.nulls(count, pa.string())
    if batch.ids.dtype == np.int64:
        numbers = pa.array(batch.ids)
    else:
        names = pa.array([json.dumps(i) for i in batch.ids.tolist()], pa.string())
    counts = np.ones(count, np.int32) if batch.counts is None else batch.counts
    vectors = pa.ListArray.from_arrays(
        pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(batch.vectors.reshape(-1)), dimension),
    )
    payloads, extras = (_texts(batch, parts) for parts in (batch.payloads, batch.extras))
    return pa.RecordBatch.from_arrays(
        [numbers, names, vectors, payloads, extras], schema=_schema(dimension)
    )


def _texts(batch: VectorBatch, parts: Sequence[Payload] | None) -> pa.Array:
    if parts is None:
        return pa.nulls(len(batch), pa.string())
    each = zip(batch.ids, parts, strict=True)
    return pa.array([_text(point_id, part) for point_id, part in each], pa.string())


def _text(point_id: PointId, part: Payload) -> str:
    try:
        return json.dumps(dict(part))
    except (TypeError, ValueError) as error:
        raise MismatchError(
            f"what {point_id} holds beside its vector is not JSON: {error}",
            remedy="Use --engine local, or turn the field into text.",
        ) from error


def _batch(rows: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> VectorBatch:
    vectors = rows.column("vectors")
    dimension = vectors.type.value_type.list_size
    counts = np.diff(vectors.offsets.to_numpy()).astype(np.intp)
    return VectorBatch(
        _ids(rows),
        vectors.flatten().flatten().to_numpy().reshape(-1, dimension),
        _parts(rows.column("payload")),
        json.loads(metadata[_CURSOR]),
        _parts(rows.column("extra")),
        counts if json.loads(metadata[_COUNTED]) else None,
    )


def _parts(texts: pa.Array) -> list[Payload] | None:
    return None if texts.null_count else [json.loads(text) for text in texts.to_pylist()]


def _ids(rows: pa.RecordBatch) -> IdArray:
    if rows.column("name").null_count:
        numbers: IdArray = rows.column("number").to_numpy()
        return numbers
    return id_array([json.loads(name) for name in rows.column("name").to_pylist()])
