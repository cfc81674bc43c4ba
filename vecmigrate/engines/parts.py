"""Part files: a partition's translated points, as an Arrow file that is there whole or not at all.

A point is a row: its id (``number``, or ``name`` as JSON where the batch's are no int64), its
``vector`` and its ``payload`` as JSON. A record batch is a batch; its metadata hold the cursor and
the ids left out since the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vecmigrate.batches import IdArray, Payload, PointId, VectorBatch, id_array
from vecmigrate.engines.part_files import part_file
from vecmigrate.errors import MismatchError
from vecmigrate.screening import Skipped

_CURSOR, _SKIPPED = b"cursor", b"skipped"


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
            writer.write_batch(_rows(batch), _metadata(batch.cursor, skipped.ids[told:]))
            told = len(skipped.ids)
        if told < len(skipped.ids):
            none = pa.RecordBatch.from_pylist([], schema=_schema(dimension))
            writer.write_batch(none, _metadata(None, skipped.ids[told:]))


def read_part(path: Path) -> Iterator[PartBatch]:
    """Yield a part's batches; vectors are views of the mapped file."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            rows, metadata = reader.get_batch_with_custom_metadata(number)
            yield PartBatch(_batch(rows, metadata[_CURSOR]), json.loads(metadata[_SKIPPED]))


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            ("number", pa.int64()),
            ("name", pa.string()),
            ("vector", pa.list_(pa.float32(), dimension)),
            ("payload", pa.string()),
        ]
    )


def _metadata(cursor: str | None, skipped: list[PointId]) -> dict[bytes, str]:
    return {_CURSOR: json.dumps(cursor), _SKIPPED: json.dumps(skipped)}


def _rows(batch: VectorBatch) -> pa.RecordBatch:
    count, dimension = batch.vectors.shape
    numbers, names = pa.nulls(count, pa.int64()), pa.nulls(count, pa.string())
    if batch.ids.dtype == np.int64:
        numbers = pa.array(batch.ids)
    else:
        names = pa.array([json.dumps(i) for i in batch.ids.tolist()], pa.string())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(batch.vectors.reshape(-1)), dimension)
    payloads = pa.nulls(count, pa.string())
    if batch.payloads is not None:
        each = zip(batch.ids, batch.payloads, strict=True)
        payloads = pa.array([_payload_text(i, payload) for i, payload in each], pa.string())
    return pa.RecordBatch.from_arrays(
        [numbers, names, vectors, payloads], schema=_schema(dimension)
    )


def _payload_text(point_id: PointId, payload: Payload) -> str:
    try:
        return json.dumps(dict(payload))
    except (TypeError, ValueError) as error:
        raise MismatchError(
            f"the payload of {point_id} is not JSON: {error}",
            remedy="Use --engine local, or turn the field into text.",
        ) from error


def _batch(rows: pa.RecordBatch, cursor: bytes) -> VectorBatch:
    count, dimension = rows.num_rows, rows.schema.field("vector").type.list_size
    vectors = rows.column("vector").flatten().to_numpy().reshape(count, dimension)
    payloads = rows.column("payload")
    return VectorBatch(
        _ids(rows),
        vectors,
        None if payloads.null_count else [json.loads(p) for p in payloads.to_pylist()],
        json.loads(cursor),
    )


def _ids(rows: pa.RecordBatch) -> IdArray:
    if rows.column("name").null_count:
        numbers: IdArray = rows.column("number").to_numpy()
        return numbers
    return id_array([json.loads(name) for name in rows.column("name").to_pylist()])
