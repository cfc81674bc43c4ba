"""How far the vectors of a lossy collection are from those that were put in."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel

from vecmigrate.connector.source import Source, fetch_existing
from vecmigrate.errors import MismatchError
from vecmigrate.points.batch import IdArray
from vecmigrate.points.collection import Metric
from vecmigrate.points.sampling import sample_uniform
from vecmigrate.verification.retranslation import distances

_READ_BATCH = 8192


class ReconstructionError(BaseModel):
    """Of points that both collections have.

    Attributes
    ----------
    originals
        URI of the collection that has the vectors as they were.
    compared, missing
        Points drawn that it has, and that it has not.
    mean, p95, maximum
        Distance of a vector from its original, relative to the original's length; for cosine, of
        vectors of unit length.
    cosine_mean
        Cosine similarity of a vector and its original.
    """

    originals: str
    compared: int
    missing: int
    mean: float
    p95: float
    maximum: float
    cosine_mean: float


def reconstruction_error(
    source: Source, originals: Source, *, size: int, seed: int = 0
) -> ReconstructionError:
    """Compare up to ``size`` points, drawn uniformly, with their originals by id.

    Raises
    ------
    MismatchError
        Where the collections differ in dimension, or none of the points is in both.
    """
    ours, theirs = source.describe(), originals.describe()
    if ours.dimension != theirs.dimension:
        raise MismatchError(
            f"{ours.uri} has {ours.dimension} dimensions, {theirs.uri} {theirs.dimension}",
            remedy="Name the collection with the vectors that this one was built from.",
        )
    drawn = sample_uniform(source.batches(_READ_BATCH, payloads=False), size, seed)
    ids: IdArray = np.empty(0, np.int64) if drawn is None else drawn.ids
    found = fetch_existing(originals, ids)
    if drawn is None or not found:
        raise MismatchError(
            f"{theirs.uri} has none of the {len(ids):,} points of {ours.uri} that were drawn",
            remedy="Name the collection with the vectors that this one was built from.",
        )
    vectors = np.concatenate([batch.vectors for batch in found])
    rows = {point_id: row for row, point_id in enumerate(drawn.ids.tolist())}
    mine = drawn.vectors[[rows[i] for batch in found for i in batch.ids.tolist()]]
    off = distances(vectors, mine, cosine=ours.metric is Metric.COSINE)
    # Of unit vectors, 2 - 2 cos is the square of the distance.
    cosines = 1 - distances(vectors, mine, cosine=True).astype(np.float64) ** 2 / 2
    return ReconstructionError(
        originals=theirs.uri,
        compared=len(vectors),
        missing=len(ids) - len(vectors),
        mean=float(off.mean()),
        p95=float(np.quantile(off, 0.95)),
        maximum=float(off.max()),
        cosine_mean=float(cosines.mean()),
    )
