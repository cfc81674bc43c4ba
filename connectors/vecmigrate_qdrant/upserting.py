"""Writes points by id, in requests that a server takes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from qdrant_client import models

from vecmigrate.connector import Payload, PointId, Vectors
from vecmigrate_qdrant.access import Access
from vecmigrate_qdrant.vectors import UNNAMED

# A server refuses a REST request beyond 32 MiB by default; the estimate leaves a margin.
REQUEST_BYTES = 24 * 2**20
BYTES_PER_COMPONENT = 24


def upsert(
    access: Access,
    collection: str,
    vector: str,
    ids: Sequence[PointId],
    vectors: Vectors,
    payloads: Sequence[Payload] | None,
) -> None:
    """Upsert points, to a server in as many requests as their size calls for.

    Parameters
    ----------
    vector
        The vector's name, or ``UNNAMED``.
    """
    if not access.embedded and len(ids) > 1:
        estimate = vectors.size * BYTES_PER_COMPONENT
        if payloads is not None:
            estimate += len(json.dumps(list(map(dict, payloads)), default=str))
        if estimate > REQUEST_BYTES:
            half = len(ids) // 2
            for part in (slice(None, half), slice(half, None)):
                upsert(
                    access, collection, vector, ids[part], vectors[part],
                    None if payloads is None else payloads[part],
                )  # fmt: skip
            return
    rows = vectors.tolist()
    points = models.Batch(
        ids=list(ids),
        vectors=rows if vector == UNNAMED else {vector: rows},
        payloads=None if payloads is None else list(map(dict, payloads)),
    )
    access.run(lambda client: client.upsert(collection, points, wait=True))
