"""Puts off a server's indexing while a collection is loaded.

Indexing segments that grow and are merged all the time costs a server more than doing it once at
the end: https://qdrant.tech/documentation/tutorials-develop/bulk-upload/
"""

from __future__ import annotations

from dataclasses import replace

from qdrant_client import models

from vecmigrate_qdrant.access import Access
from vecmigrate_qdrant.marks import Mark

_NEVER = 0
"""As a threshold: no segment is ever indexed."""


def put_off_indexing(access: Access, collection: str, mark: Mark) -> Mark:
    """Switch indexing off and note in the collection's mark what to set again; return the mark.

    Nothing is done where indexing is off anyway, or Qdrant does not tell from when on it indexes.
    """
    info = access.run(lambda client: client.get_collection(collection))
    threshold = info.config.optimizer_config.indexing_threshold
    if access.embedded or not threshold:
        return mark
    noted = replace(mark, indexing_threshold=threshold)
    _set(access, collection, _NEVER, noted)
    return noted


def resume_indexing(access: Access, collection: str, mark: Mark) -> None:
    """Set what :func:`put_off_indexing` noted."""
    if mark.indexing_threshold is not None:
        _set(access, collection, mark.indexing_threshold, mark)


def _set(access: Access, collection: str, threshold: int, mark: Mark) -> None:
    access.run(
        lambda client: client.update_collection(
            collection,
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=threshold),
            metadata=mark.as_metadata(),
        )
    )
