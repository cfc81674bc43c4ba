"""What a point has beside the chosen vector and its payload: other vectors, and its shard key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from qdrant_client import models

from vecmigrate.connector import Extra, MismatchError
from vecmigrate_qdrant.vectors import other_vectors

_VECTORS, _SHARD_KEY = "vectors", "shard_key"


def has_extras(params: models.CollectionParams, chosen: str) -> bool:
    """Tell whether a collection's points have extras."""
    return bool(other_vectors(params, chosen)) or is_sharded_by_key(params)


def is_sharded_by_key(params: models.CollectionParams) -> bool:
    """Tell whether each point is written to a shard key."""
    return params.sharding_method == models.ShardingMethod.CUSTOM


def read_extras(records: Sequence[models.Record], others: Collection[str]) -> list[Extra]:
    """Return the extras of points that were read with all their vectors: the ``others``."""
    return [_extra(record, others) for record in records]


def _extra(record: models.Record, others: Collection[str]) -> Extra:
    found: dict[str, Any] = {}
    if isinstance(record.vector, dict):
        vectors = {
            name: vector.model_dump() if isinstance(vector, models.SparseVector) else vector
            for name, vector in record.vector.items()
            if name in others
        }
        if vectors:
            found[_VECTORS] = vectors
    if record.shard_key is not None:
        found[_SHARD_KEY] = record.shard_key
    return found


def vectors_of(extra: Extra) -> dict[str, Any]:
    """Return a point's other vectors, as an upsert takes them."""
    return {
        name: models.SparseVector(**vector) if isinstance(vector, dict) else vector
        for name, vector in extra.get(_VECTORS, {}).items()
    }


def shard_key_of(extra: Extra) -> int | str | None:
    """Return the shard key that a point came from."""
    key: int | str | None = extra.get(_SHARD_KEY)
    return key


def check_extras(
    extras: Sequence[Extra] | None, params: models.CollectionParams, chosen: str, where: str
) -> None:
    """Make sure that writing points takes nothing from those that are there.

    Raises
    ------
    MismatchError
        Where the points of ``where`` have extras and these have none.
    """
    if extras is None and has_extras(params, chosen):
        others = ", ".join(map(repr, other_vectors(params, chosen))) or "shard keys"
        raise MismatchError(
            f"{where} has other vectors ({others}) than its source, which changed points would "
            "lose",
            remedy="Keep them in a collection of their own.",
        )


def fitting_extras(
    extras: Sequence[Extra], params: models.CollectionParams, chosen: str
) -> tuple[list[Extra], set[str]]:
    """Return the extras that a collection has a place for, and the names of other vectors.

    One that an earlier version wrote has the chosen vector alone.
    """
    known = set(other_vectors(params, chosen))
    keys = {_SHARD_KEY} if is_sharded_by_key(params) else set()
    unknown = {name for extra in extras for name in extra.get(_VECTORS, ())} - known
    if not unknown and keys:
        return list(extras), unknown
    return [
        {
            _VECTORS: {n: v for n, v in extra.get(_VECTORS, {}).items() if n in known},
            **{key: extra[key] for key in keys if key in extra},
        }
        for extra in extras
    ], unknown
