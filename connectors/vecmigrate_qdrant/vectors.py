"""Named vectors: which one is moved, and the matrix of its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qdrant_client import models

from vecmigrate.connector import InputError, UsageError, Vectors

UNNAMED = ""
"""Qdrant's own name for the one vector of a collection without named vectors."""


def dense_params(params: models.CollectionParams) -> dict[str, models.VectorParams]:
    """Return the parameters of a collection's dense vectors and multivectors by name."""
    if isinstance(params.vectors, models.VectorParams):
        return {UNNAMED: params.vectors}
    return dict(params.vectors or {})


def choose_vector(params: models.CollectionParams, wanted: str | None, where: str) -> str:
    """Return the name of the vector to move: ``wanted``, or the only dense one.

    Raises
    ------
    UsageError
        Where there is none, more than one to choose from, or ``wanted`` is not a single dense
        vector.
    """
    everything = dense_params(params)
    dense = [name for name, p in everything.items() if p.multivector_config is None]
    listed = ", ".join(map(repr, dense)) or "none"
    if wanted is None:
        if len(dense) == 1:
            return dense[0]
        if not dense:
            raise UsageError(
                f"{where} has no dense vector",
                remedy="Multivectors and sparse vectors cannot be translated; choose another "
                "collection.",
            )
        raise UsageError(
            f"{where} has several dense vectors: {listed}",
            remedy="Name one by ?vector=NAME.",
        )
    if wanted in dense:
        return wanted
    if wanted in everything:
        kind = "is a multivector"
    elif wanted in (params.sparse_vectors or {}):
        kind = "is a sparse vector"
    else:
        kind = "is not there"
    raise UsageError(
        f"the vector {wanted!r} of {where} {kind}",
        remedy=f"Name a dense one by ?vector=NAME; there are: {listed}.",
    )


def other_vectors(params: models.CollectionParams, chosen: str) -> list[str]:
    """Return the names of all vectors but the chosen one."""
    return [n for n in [*dense_params(params), *(params.sparse_vectors or {})] if n != chosen]


def selector(params: models.CollectionParams, chosen: str) -> bool | list[str]:
    """Return what asks a request for the chosen vector and no other."""
    return [chosen] if chosen != UNNAMED or other_vectors(params, chosen) else True


def matrix(records: Sequence[models.Record], name: str, dimension: int, where: str) -> Vectors:
    """Return the records' vectors of that name, ``(n, dimension)`` float32 C-contiguous.

    Raises
    ------
    InputError
        Where a point has no such vector, naming it.
    """
    rows = [r.vector.get(name) if isinstance(r.vector, dict) else r.vector for r in records]
    for record, row in zip(records, rows, strict=True):
        if row is None:
            raise InputError(
                f"the point {record.id!r} of {where} has no vector {name!r}",
                remedy="Upsert the vector or delete the point, then run this again.",
            )
    return np.array(rows, dtype=np.float32).reshape(len(rows), dimension)
