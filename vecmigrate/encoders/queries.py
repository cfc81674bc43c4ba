"""Vectors of queries: ready-made ones, or made of their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vecmigrate.encoders.base import Encoder, encode_queries
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.evaluation import read_queries
from vecmigrate.points.batch import Vectors


def ready_made_queries(path: Path, dimension: int, where: str) -> Vectors:
    """Read ``(n, d)`` floats of queries in a ``.npy`` file.

    Parameters
    ----------
    dimension, where
        Of the collection that they are for, and its name.

    Raises
    ------
    InputError
        If the file cannot be read, is no such array or holds a row that is not finite.
    MismatchError
        If its dimension is not the collection's.
    """
    # Loads Arrow, which the core import does without.
    from vecmigrate.io.vector_files import open_vectors

    vectors = open_vectors(path)
    if not len(vectors):
        raise InputError(f"{path} holds no query", remedy="Give one row a query.")
    if vectors.shape[1] != dimension:
        raise MismatchError(
            f"the queries in {path} have {vectors.shape[1]} dimensions and {where} has {dimension}",
            remedy="Encode them with the new encoder.",
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(
            f"row {int(np.argmin(finite))} of {path} is not finite", remedy="Leave that row out."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def query_vectors(path: Path, encoder: Encoder, where: str) -> Vectors:
    """Read recent queries: ``.npy`` of the new encoder's vectors, or JSON lines to encode.

    Raises
    ------
    InputError, MismatchError, UnreachableError
    """
    if path.suffix == ".npy":
        return ready_made_queries(path, encoder.identity.dimension, where)
    return encode_queries(encoder, read_queries(path))
