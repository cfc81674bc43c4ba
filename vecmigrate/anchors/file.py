"""Anchor files: one Parquet table of ids and both vectors, its origin in the schema's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vecmigrate.anchors.strategy import Strategy
from vecmigrate.batches import IdArray, Vectors, id_array
from vecmigrate.description import EncoderIdentity, Metric
from vecmigrate.errors import InputError, TargetExistsError
from vecmigrate.publishing import published

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
_HEADER = b"vecmigrate"


class AnchorCard(BaseModel):
    """Where anchors come from.

    Attributes
    ----------
    source
        The collection's URI.
    population
        Points that the sample was drawn from.
    seed, strategy
        Of the choice.
    source_encoder
        The old encoder, None where not told.
    target_encoder
        The new one.
    metric
        How the collection compares vectors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    source: str
    population: int
    seed: int
    strategy: Strategy
    source_encoder: EncoderIdentity | None = None
    target_encoder: EncoderIdentity
    metric: Metric


@dataclass(frozen=True, slots=True)
class AnchorSet:
    """Anchors in memory.

    Attributes
    ----------
    ids
        ``(n,)``.
    source_vectors, target_vectors
        ``(n, d_source)`` and ``(n, d_target)`` float32.
    card
        Where they come from.
    """

    ids: IdArray
    source_vectors: Vectors
    target_vectors: Vectors
    card: AnchorCard

    def __len__(self) -> int:
        return len(self.ids)


def save_anchors(anchors: AnchorSet, path: Path) -> None:
    """Write an anchor file in one step.

    Raises
    ------
    TargetExistsError, WriteError
    """
    if path.exists():
        raise TargetExistsError(f"{path} exists", remedy="Name another file, or remove it.")
    write_table(
        path,
        {
            "id": anchors.ids,
            "source_vector": anchors.source_vectors,
            "target_vector": anchors.target_vectors,
        },
        anchors.card,
    )


def load_anchors(path: str | Path) -> AnchorSet:
    """Read an anchor file.

    Raises
    ------
    InputError
        Where the file is missing or is no anchor file.
    """
    columns, header = read_table(Path(path))
    try:
        card = AnchorCard.model_validate(header)
        return AnchorSet(columns["id"], columns["source_vector"], columns["target_vector"], card)
    except (KeyError, ValidationError) as error:
        raise _not_anchors(path, error) from error


def write_table(path: Path, columns: dict[str, Any], header: BaseModel) -> None:
    """Write columns (``(n,)`` ids, ``(n, d)`` float32 vectors) as Parquet, in one step.

    Raises
    ------
    WriteError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: _vector_column(values) if values.ndim == 2 else _id_column(values)
        for name, values in columns.items()
    }
    table = pa.table(arrays).replace_schema_metadata({_HEADER: header.model_dump_json()})
    with published(path) as partial:
        pq.write_table(table, partial, compression="none", use_dictionary=False)


def read_table(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`write_table` wrote: columns by name, and the header.

    Raises
    ------
    InputError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=True)
        header = json.loads((table.schema.metadata or {})[_HEADER])
        columns = {
            name: _vectors(column) if pa.types.is_fixed_size_list(column.type) else _ids(column)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist", remedy="Make it with: vecmigrate anchors."
        ) from error
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _not_anchors(path, error) from error
    return columns, header


def _not_anchors(path: str | Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is not an anchor file ({str(error).splitlines()[0]})",
        remedy="Give a file that vecmigrate anchors wrote.",
    )


def _vector_column(vectors: Vectors) -> pa.Array:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _vectors(column: pa.ChunkedArray) -> Vectors:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(-1, column.type.list_size), dtype=np.float32)


def _id_column(ids: IdArray) -> pa.Array:
    """Integers as they are; strings, and integers mixed with them, as JSON."""
    import pyarrow as pa

    if ids.dtype == np.int64:
        return pa.array(ids)
    return pa.array([json.dumps(i) for i in ids.tolist()], pa.string())


def _ids(column: pa.ChunkedArray) -> IdArray:
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return id_array(column.to_pylist())
    return id_array(json.loads(i) for i in column.to_pylist())
