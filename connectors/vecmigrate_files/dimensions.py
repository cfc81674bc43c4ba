"""Whether vectors are as long as the target's."""

from __future__ import annotations

from vecmigrate.connector import MismatchError, VectorBatch
from vecmigrate_files.place import Place


def check_dimension(batch: VectorBatch, dimension: int, place: Place) -> None:
    """Raise :class:`MismatchError` where the vectors have another one."""
    if batch.vectors.shape[1] != dimension:
        raise MismatchError(
            f"{place.uri} takes vectors of {dimension} dimensions, not {batch.vectors.shape[1]}",
            remedy="Check the translator.",
        )
