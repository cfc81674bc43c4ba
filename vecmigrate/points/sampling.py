"""A uniform sample of a collection in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vecmigrate.points.batch import VectorBatch, id_array


def sample_uniform(batches: Iterable[VectorBatch], size: int, seed: int) -> VectorBatch | None:
    """Draw ``size`` points without replacement, each subset equally likely.

    A reservoir by random keys: each point gets a key from the seeded generator, and the ``size``
    smallest keys stay (Efraimidis and Spirakis 2006, with equal weights). Memory is that of the
    sample and a batch. The draw depends on the seed and the points' order alone, not on how they
    are cut into batches; points come back in that order.

    Returns
    -------
    VectorBatch or None
        At most ``size`` points without payloads; None if there were no points.
    """
    rng = np.random.default_rng(seed)
    kept: VectorBatch | None = None
    kept_keys = np.empty(0)
    for batch in batches:
        keys = rng.random(len(batch))
        if len(kept_keys) == size:
            chosen = np.flatnonzero(keys < kept_keys.max())
            if not len(chosen):
                continue
        else:
            chosen = np.arange(len(batch))
        vectors, ids, keys = batch.vectors[chosen], batch.ids[chosen], keys[chosen]
        if kept is not None:
            vectors = np.concatenate([kept.vectors, vectors])
            ids = id_array([*kept.ids.tolist(), *ids.tolist()])
            keys = np.concatenate([kept_keys, keys])
        if len(keys) > size:
            rows = np.sort(np.argpartition(keys, size)[:size])
            vectors, ids, keys = vectors[rows], ids[rows], keys[rows]
        kept, kept_keys = VectorBatch(id_array(ids.tolist()), np.ascontiguousarray(vectors)), keys
    return kept
