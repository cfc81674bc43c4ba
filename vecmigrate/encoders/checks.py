"""What every encoder refuses to take, and to give back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vecmigrate.errors import BadVectorError, InputError
from vecmigrate.points.batch import IdArray, PointId, Vectors, row_norms
from vecmigrate.points.ids import name_some, point_name


def require_texts(texts: Sequence[str] | None, encoder: str) -> Sequence[str]:
    """Return the texts.

    Raises
    ------
    InputError
        Where there are none to encode.
    """
    if texts is None:
        raise InputError(
            f"encoder {encoder} was given no texts",
            remedy="Name the field that holds the text, or use a vectors: encoder.",
        )
    return texts


def require_usable(
    vectors: Vectors, ids: Sequence[PointId] | IdArray | None, *, origin: str
) -> None:
    """Refuse ``(n, d)`` vectors that no index can compare.

    Raises
    ------
    BadVectorError
        Names up to ten points whose vectors hold NaN or infinity, or have no length.
    """
    norms = row_norms(vectors)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        named = name_some(point_name(ids, int(row)) for row in bad)
        raise BadVectorError(
            f"{origin} gives zero, NaN or infinite vectors for {named}",
            remedy="Leave these points out, or mend their texts or vectors.",
        )
