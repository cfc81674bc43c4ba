"""A table's vector index: read back, and made again at another dimension."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from vecmigrate.connector import MismatchError, UsageError, told_as
from vecmigrate_lancedb.engine import FAILURES, load, reason
from vecmigrate_lancedb.place import Place

NO_INDEX = "none"
_CLASSES = {
    "IVF_FLAT": "IvfFlat",
    "IVF_SQ": "IvfSq",
    "IVF_PQ": "IvfPq",
    "IVF_RQ": "IvfRq",
    "IVF_HNSW_FLAT": "HnswFlat",
    "IVF_HNSW_SQ": "HnswSq",
    "IVF_HNSW_PQ": "HnswPq",
}
_EIGHT_BITS = ("IVF_SQ", "IVF_HNSW_SQ")  # always, so that it is no parameter
_ALL_PARTITIONS = 1_000_000_000
_RANKED = re.compile(r"partitions_ranked=([\d.]+)( [KM])?[,\]]")
_UNITS = {None: 1, " K": 1000, " M": 1_000_000}
_SEARCHED = re.compile(r"deltas_searched=(\d+)[,\]]")


class VectorIndex(BaseModel):
    """What LanceDB is asked for to make an index alike; what is None is left to its defaults.

    Attributes
    ----------
    type
        In LanceDB's words, as ``IVF_PQ``.
    m, ef_construction
        Of the HNSW graphs, if there are any.
    num_sub_vectors, num_bits
        Of the code, if vectors are coded.
    dimension
        Of the vectors that ``num_sub_vectors`` was chosen for.
    """

    model_config = ConfigDict(frozen=True)

    type: str
    num_partitions: int | None = None
    m: int | None = None
    ef_construction: int | None = None
    num_sub_vectors: int | None = None
    num_bits: int | None = None
    dimension: int | None = None

    def __str__(self) -> str:
        told = self.model_dump(exclude={"type", "dimension"}, exclude_none=True)
        return f"{self.type}({', '.join(f'{k}={v}' for k, v in told.items())})"


def read_index(table: Any, column: str, dimension: int) -> tuple[VectorIndex, str] | None:
    """Return the index on a column and its distance; None if it has none."""
    entry = next((i for i in table.list_indices() if list(i.columns) == [column]), None)
    if entry is None:
        return None
    stats = table.index_stats(entry.name)
    details = getattr(entry, "index_details", None) or {}
    graph, code = details.get("hnsw") or {}, details.get("compression") or {}
    index = VectorIndex(
        type=stats.index_type,
        num_partitions=_partitions(table, column, dimension),
        m=graph.get("max_connections"),
        ef_construction=graph.get("construction_ef"),
        num_sub_vectors=code.get("num_sub_vectors"),
        num_bits=None if stats.index_type in _EIGHT_BITS else code.get("num_bits"),
        dimension=dimension,
    )
    return index, stats.distance_type


def _partitions(table: Any, column: str, dimension: int) -> int | None:
    """Count an index's partitions; None where LanceDB does not tell.

    It does so only in the account of a search that was asked to try all of them, and from 1,000 on
    to three digits.
    """
    query = np.ones(dimension, np.float32)
    search = table.search(query, vector_column_name=column).limit(1).nprobes(_ALL_PARTITIONS)
    account = search.select(["_distance"]).analyze_plan()
    ranked, deltas = _RANKED.search(account), _SEARCHED.search(account)
    if ranked is None:
        return None
    told = round(float(ranked[1]) * _UNITS[ranked[2]])
    return told // max(int(deltas[1]) if deltas else 1, 1) or None


def index_for(place: Place, alike: VectorIndex | None) -> VectorIndex | None:
    """Return the index that the URI asks for, else one like the source's; None for none.

    Raises
    ------
    UsageError
        If LanceDB has no such index.
    """
    asked = place.option("index")
    if asked is None:
        return alike
    if asked.lower() == NO_INDEX:
        return None
    if asked.upper() not in _CLASSES:
        raise UsageError(
            f"{place.uri}: there is no index {asked!r}",
            remedy=f"Known are none, {', '.join(name.lower() for name in _CLASSES)}.",
        )
    return VectorIndex(type=asked.upper())


def make_index(table: Any, column: str, index: VectorIndex, distance: str, place: Place) -> None:
    """Train and add an index.

    Raises
    ------
    MismatchError
        If LanceDB cannot make it of these vectors.
    """
    dimension = table.schema.field(column).type.list_size
    given = index.model_dump(exclude={"type", "dimension"}, exclude_none=True)
    if index.num_sub_vectors is not None and index.dimension is not None:
        given["num_sub_vectors"] = _sub_vectors(index.num_sub_vectors, index.dimension, dimension)
    kind = getattr(load("lancedb.index"), _CLASSES.get(index.type, ""), None)
    impossible = f"{place.uri}: the index {index} cannot be made of {table.count_rows()} vectors"
    remedy = "Name another for the target, as ?index=ivf_flat, or ?index=none."
    with told_as(MismatchError, impossible, remedy, (*FAILURES, TypeError), reason):
        if kind is None:
            raise ValueError(f"this LanceDB makes no {index.type}")
        table.create_index(column, config=kind(distance_type=distance, **given))


def _sub_vectors(parts: int, old: int, new: int) -> int:
    """Return the divisor of ``new`` that keeps best how many components a part has."""
    wanted = parts * new / old
    return min((n for n in range(1, new + 1) if new % n == 0), key=lambda n: abs(n - wanted))
