"""What a point has beside the chosen vector and its payload: its other vectors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from vecmigrate.connector import Extra, MismatchError

VECTORS = "vectors"
"""The key of an extra under which a point's other vectors are."""


def read_extras(records: Sequence[models.Record], others: Collection[str]) -> list[Extra]:
    """Return the extras of points that were read with all their vectors: the ``others``."""
    return [_extra(record, others) for record in records]


def _extra(record: models.Record, others: Collection[str]) -> Extra:
    named = record.vector if isinstance(record.vector, dict) else {}
    return extra_of({name: vector for name, vector in named.items() if name in others})


def extra_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra of a point with these other vectors, as qdrant-client gives them."""
    vectors = {name: _plain(vector) for name, vector in named.items()}
    return {VECTORS: vectors} if vectors else {}


def _plain(vector: Any) -> Any:
    """Return a vector as JSON, its numbers as float32: REST gives fewer digits than gRPC."""
    if isinstance(vector, models.SparseVector):
        return {"indices": list(vector.indices), "values": _plain(vector.values)}
    return np.array(vector, np.float32).tolist()


def vectors_of(extra: Extra) -> dict[str, Any]:
    """Return a point's other vectors, as an upsert takes them."""
    return {
        name: models.SparseVector(**vector) if isinstance(vector, dict) else vector
        for name, vector in extra.get(VECTORS, {}).items()
    }


def count_numbers(extra: Extra) -> int:
    """Return how many numbers all vectors of an extra have."""
    vectors = extra.get(VECTORS, {}).values()
    return sum(2 * len(v["values"]) if isinstance(v, dict) else np.size(v) for v in vectors)


def check_extras(extras: Sequence[Extra] | None, others: Collection[str], where: str) -> None:
    """Make sure that writing points takes nothing from those that are there.

    Parameters
    ----------
    others
        The other vectors of the points of ``where``.

    Raises
    ------
    MismatchError
        If there are such, and the points to be written have no extras.
    """
    if extras is None and others:
        names = ", ".join(map(repr, sorted(others)))
        raise MismatchError(
            f"{where} has other vectors ({names}) than its source, which changed points would lose",
            remedy="Keep them in a collection of their own.",
        )


def fitting_extras(extras: Sequence[Extra], known: Collection[str]) -> tuple[list[Extra], set[str]]:
    """Return the extras that a collection has a place for, and the names of other vectors.

    One that an earlier version wrote has the chosen vector alone.
    """
    unknown = {name for extra in extras for name in extra.get(VECTORS, ())} - set(known)
    if not unknown:
        return list(extras), unknown
    return [
        {VECTORS: {n: v for n, v in extra.get(VECTORS, {}).items() if n in known}}
        for extra in extras
    ], unknown
