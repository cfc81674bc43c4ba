"""Whether an encoder still gives the vectors that it gave before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vecmigrate.encoders.metered import MeteredEncoder
from vecmigrate.errors import InputError, MismatchError
from vecmigrate.points.batch import IdArray, Vectors, row_norms

SAME = 0.999
"""Two answers of one encoder for one text have at least this cosine."""

COMPARED = 2
"""Texts that are embedded again before an encoder goes on with an earlier run's work."""

CANDIDATES = 64
"""Points among which those are looked for."""


def cosines_again(
    encoder: MeteredEncoder,
    ids: IdArray,
    texts: Sequence[str | None],
    first: Vectors,
    stored: Callable[[Vectors], Vectors] = lambda vectors: vectors,
) -> NDArray[np.floating]:
    """Embed ``(n,)`` texts again; return the cosines of the answers with the first ones.

    That of a text that is not taken any more is 1: there is nothing to compare.

    Parameters
    ----------
    first
        ``(n, d)`` vectors.
    stored
        Returns vectors as the store of the first ones holds them.
    """
    refused: dict[int, InputError] = {}
    again = encoder.encode(texts, ids=ids, keep=False, refused=refused)
    again[list(refused)] = first[list(refused)]
    again = stored(again)
    cosines: NDArray[np.floating] = np.einsum("ij,ij->i", first, again) / (
        row_norms(first) * row_norms(again)
    )
    return cosines


def check_is_same(
    encoder: MeteredEncoder,
    ids: IdArray,
    texts: Sequence[str | None],
    first: Vectors,
    stored: Callable[[Vectors], Vectors] = lambda vectors: vectors,
) -> None:
    """Raise unless an encoder gives some texts the vectors that it gave them before.

    No budget bounds these texts; parameters as of :func:`cosines_again`.

    Raises
    ------
    MismatchError
        Names the point whose two vectors differ the most.
    """
    if not len(ids):
        return
    unbounded = MeteredEncoder(encoder.encoder, encoder.meter.beside())
    cosines = cosines_again(unbounded, ids, texts, first, stored)
    if (lowest := float(cosines.min())) < SAME:
        raise MismatchError(
            f"{encoder.identity} gives the text of id {ids[int(cosines.argmin())]} another vector "
            f"than before, of cosine {lowest:.4f}: it is another model behind the same name",
            remedy="Give the encoder that made the vectors; with another one migrate to a new "
            "target.",
        )
