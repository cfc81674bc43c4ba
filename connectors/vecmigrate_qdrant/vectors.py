"""Named vectors: which one is moved."""

from __future__ import annotations

from qdrant_client import models

from vecmigrate.connector import UsageError, VectorNotFoundError

UNNAMED = ""
"""Qdrant's own name for the one vector of a collection without named vectors."""


def dense_params(params: models.CollectionParams) -> dict[str, models.VectorParams]:
    """Return the parameters of a collection's dense vectors and multivectors by name."""
    if isinstance(params.vectors, models.VectorParams):
        return {UNNAMED: params.vectors}
    return dict(params.vectors or {})


def choose_vector(params: models.CollectionParams, wanted: str | None, where: str) -> str:
    """Return the name of the vector to move: ``wanted``, or the only dense one.

    A multivector is one that is named, or the only vector there is. A vector without a name may
    have others beside it, which were added later.

    Raises
    ------
    UsageError
        If there is none.
    VectorNotFoundError
        If there is more than one to choose from, or ``wanted`` is not there or sparse.
    """
    everything = dense_params(params)
    dense = [name for name, p in everything.items() if p.multivector_config is None]
    listed = ", ".join(map(repr, everything)) or "none"
    if wanted is None and UNNAMED in everything:
        return UNNAMED  # As a reader gets it who names none.
    if wanted is None:
        choices = dense or list(everything)
        if len(choices) == 1:
            return choices[0]
        if not choices:
            raise UsageError(
                f"{where} has no dense vector",
                remedy="Sparse vectors cannot be translated; choose another collection.",
            )
        kind = "dense vectors" if dense else "multivectors"
        raise VectorNotFoundError(
            f"{where} has several {kind}: {', '.join(map(repr, choices))}",
            remedy="Name one by ?vector=NAME.",
        )
    if wanted in everything:
        return wanted
    kind = "is a sparse vector" if wanted in (params.sparse_vectors or {}) else "is not there"
    raise VectorNotFoundError(
        f"the vector {wanted!r} of {where} {kind}",
        remedy=f"Name a dense one by ?vector=NAME; there are: {listed}.",
    )


def other_vectors(params: models.CollectionParams, chosen: str) -> list[str]:
    """Return the names of all vectors but the chosen one."""
    return [n for n in [*dense_params(params), *(params.sparse_vectors or {})] if n != chosen]
